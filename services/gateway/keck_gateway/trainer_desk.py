"""Scores for trainers that speak HTTP of their own: the adapters' rules, with the gateway's desk as judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from keck.adapters.preparation import check_or_score
from keck.adapters.score import Score, scored
from keck.adapters.settings import AdapterSettings
from keck.adapters.task import Task
from keck.batches import Check
from keck.errors import BadRequest, NotJudged
from keck.hashing import digest_of
from keck.messages import CheckRequested, EvalDone, Options, new_request
from keck.subjects import CheckKey
from keck.verdict import Verdict
from keck_gateway.desk import Desk
from keck_gateway.problems import Unjudgeable

__all__ = ["require_reward", "score_of", "settings_in"]

_MOST_TRIES: Final = 32
_PASSING: Final = frozenset({Verdict.INFRA_ERROR, Verdict.DEADLINE_EXCEEDED, Verdict.CANCELLED})
"""Verdicts that a repeated request does not want again."""
_CLIENTS_OWN: Final = ("url", "patience_s")


def settings_in(query: Mapping[str, str]) -> AdapterSettings:
    """An adapter's settings from a query.

    Raises:
        BadRequest: a name is none of them, or a value cannot be one.
    """
    for name in _CLIENTS_OWN:
        if name in query:
            raise BadRequest(f"query: {name!r} is a setting of clients")
    return AdapterSettings.of(query, from_text=True)


async def score_of(desk: Desk, answer: str, task: Task, settings: AdapterSettings) -> Score:
    """The score of one answer.

    The check's id is made of what is judged. So a trainer that lost patience and asks again waits for the check it has
    already; one that was told of our failure gets a fresh one.
    """
    found = check_or_score(answer, task, settings)
    if isinstance(found, Score):
        return found
    return scored(await _verdict(desk, found, retries=settings.judge.retries), settings.rewards)


def require_reward(score: Score, neutral: float | None) -> float:
    """The reward, or the neutral value that was asked for.

    Raises:
        Unjudgeable: the reference fails.
        NotJudged: there is no verdict on the candidate for other reasons.
    """
    if score.reward is not None:
        return score.reward
    if neutral is not None:
        return neutral
    facts = score.facts
    if facts["verdict"] == Verdict.REFERENCE_ERROR:
        raise Unjudgeable(f"reference_error: {facts['feedback']}")
    raise NotJudged(f"{facts['verdict']} {facts['failure_kind']}: {facts['feedback']}")


async def _verdict(desk: Desk, check: Check, *, retries: int) -> EvalDone:
    begun = 0
    event: EvalDone | None = None
    for attempt in range(_MOST_TRIES):
        request = _request(check, attempt)
        stored = await desk.waiters.stored(CheckKey.of(request))
        if stored is not None and stored.verdict in _PASSING:
            event = stored
            continue
        event = await desk.judge(request, id_is_callers=True, needs_executor=False)
        assert event is not None, "without a waiting time there is a verdict or an exception"
        begun += 1
        if event.verdict is not Verdict.INFRA_ERROR or begun > retries:
            break
    assert event is not None, "there was at least one attempt"
    return event


def _request(check: Check, attempt: int) -> CheckRequested:
    options = check.options
    assert isinstance(options, Options), "made by the adapter"
    content = digest_of(check.kind, check.candidate, check.reference, msgspec.json.encode(options).decode())
    return new_request(
        check.candidate,
        check.reference,
        check_id=f"t-{content[:40]}-{attempt}",
        run=check.run,
        kind=check.kind,
        lane="bulk",
        options=options,
        deadline_s=check.deadline_s,
    )
