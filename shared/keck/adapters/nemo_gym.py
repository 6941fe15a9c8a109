"""NeMo Gym: the gateway is a resources server; or :func:`verify` in a server of your own.

Point an agent's ``resources_server`` at the gateway: it answers ``POST /seed_session`` and ``POST /verify``. Data rows have
``verifier_metadata`` with ``reference`` and, if wanted, ``kind`` and ``options`` (:func:`keck.adapters.task_of`); settings go
into the same mapping under ``settings``.

``/verify`` gives back what it was given, with ``reward``, ``mask_sample``, ``failure_kind``, ``failure_reason`` and the other keys of
`keck.adapters.score.KEYS`. The candidate is looked for in the text of the response's last message.

Where a sample could not be judged: ``mask_sample`` is true, ``reward`` is 0.0, and ``failure_kind`` is one of NeMo Gym's:

===================================================  ====================
Keck                                                 ``failure_kind``
===================================================  ====================
``reference_error``, ``infra_error``                 ``verifier_error``
``deadline_exceeded``                                ``transport_timeout``
``cancelled``                                        ``cancelled``
===================================================  ====================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from keck.adapters.score import Score
from keck.adapters.scorer import scorer_for
from keck.errors import BadRequest

__all__ = ["Asked", "answer_of", "asked_in", "verify"]

_FAILURE_KINDS: Final[Mapping[str, str]] = {
    "reference_error": "verifier_error",
    "infra_error": "verifier_error",
    "deadline_exceeded": "transport_timeout",
    "cancelled": "cancelled",
}

Asked = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""The model's answer, its task, and settings."""


async def verify(body: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """The answer to a ``/verify`` request, given as a plain mapping (``request.model_dump()``).

    Raises:
        BadRequest: the request has no reference, or a setting is wrong.
    """
    answer, task, own = asked_in(body)
    return answer_of(body, await scorer_for(settings | dict(own)).score(answer, task))


def asked_in(body: Mapping[str, Any]) -> Asked:
    """What a request asks.

    Raises:
        BadRequest: it has no reference.
    """
    metadata = body.get("verifier_metadata")
    if not isinstance(metadata, Mapping) or "reference" not in metadata:
        raise BadRequest("`verifier_metadata` must have `reference`, the source of what is asked for")
    task = {name: metadata[name] for name in ("reference", "kind", "options") if name in metadata}
    settings = metadata.get("settings", {})
    if not isinstance(settings, Mapping):
        raise BadRequest("`verifier_metadata.settings` must be a mapping")
    return _last_text(body.get("response")), task, settings


def answer_of(body: Mapping[str, Any], score: Score) -> dict[str, Any]:
    """What is given back for a score."""
    masked: dict[str, Any] = {"mask_sample": False, "failure_kind": None, "failure_reason": None}
    if score.is_masked:
        kind = _FAILURE_KINDS.get(str(score.facts["verdict"]), "verifier_error")
        masked = {"mask_sample": True, "failure_kind": kind, "failure_reason": score.facts["feedback"]}
    return {**body, **score.facts, "reward": score.reward_or(0.0), **masked}


def _last_text(response: object) -> str:
    """The text of the last message of a response; empty if it has none."""
    output = response.get("output") if isinstance(response, Mapping) else None
    for item in reversed(output if isinstance(output, Sequence) else []):
        if isinstance(item, Mapping) and item.get("type") == "message":
            return _text_of(item.get("content"))
    return ""


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))
