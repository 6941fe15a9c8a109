"""verifiers, before 0.2 (``vf.Rubric``) and since (``verifiers.v1``).

Before 0.2::

    import verifiers as vf
    from keck.adapters import verifiers as keck_vf
    rubric = vf.Rubric(funcs=[keck_vf.reward_function(device="cuda")])

v1, in a task whose data has a field ``reference``::

    @vf.reward(weight=1.0)
    async def kernel(self, trace) -> float:
        return await keck_vf.score_trace(trace, self.data.reference, device="cuda")

The answer (before 0.2) is the reference's source (:func:`keck.adapters.task_of`).

Where a sample could not be judged: v1 gets its ``SandboxError``, raised: the rollout is recorded as failed, and has no reward.
Before 0.2 a rubric turns exceptions of reward functions into 0.0, so ``state["error"]`` is set to a ``SandboxError``
instead, which is an ``InfraError``: environments and trainers try such a rollout again or drop it. ``state["keck"]`` and v1's
metrics hold the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any

from keck.adapters.score import Score
from keck.adapters.scorer import scorer_for

__all__ = ["reward_function", "score_trace"]


def reward_function(**settings: Any) -> Callable[..., Coroutine[Any, Any, float]]:
    """A reward function of a ``vf.Rubric`` with these settings (:class:`keck.adapters.AdapterSettings`, flat)."""
    scorer = scorer_for(settings)

    async def keck_reward(completion: object, answer: object, state: MutableMapping[str, Any]) -> float:
        score = await scorer.score(_last_text(completion), answer)
        state["keck"] = score.facts
        if score.reward is not None:
            return score.reward
        import verifiers as vf  # noqa: PLC0415 - who calls this has it

        state["error"] = vf.SandboxError(_why(score))
        return scorer.settings.judge.neutral or 0.0

    return keck_reward


async def score_trace(trace: Any, reference: object, **settings: Any) -> float:
    """The reward of a v1 trace, its last reply against the reference; numbers of the verdict become its metrics.

    Raises:
        verifiers.v1.errors.SandboxError: the sample could not be judged.
    """
    score = await scorer_for(settings).score(trace.last_reply, reference)
    trace.record_metrics(
        {f"keck_{name}": float(value) for name, value in score.facts.items() if not isinstance(value, str)}
    )
    if score.reward is not None:
        return score.reward
    from verifiers.v1.errors import SandboxError  # noqa: PLC0415 - who calls this has it

    raise SandboxError(_why(score))


def _why(score: Score) -> str:
    return f"keck: {score.facts['verdict']} {score.facts['failure_kind']}: {score.facts['feedback']}"


def _last_text(completion: object) -> str:
    """A completion's text; of messages, the last of the assistant's."""
    if isinstance(completion, str):
        return completion
    messages = completion if isinstance(completion, Sequence) else []
    for message in reversed(messages):
        role, content = _field(message, "role"), _field(message, "content")
        if role == "assistant":
            return content if isinstance(content, str) else ""
    return ""


def _field(message: object, name: str) -> object:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)
