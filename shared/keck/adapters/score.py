"""One result for all trainers: a reward, and the verdict as a flat mapping.

The mapping has the same keys whatever happened, and nothing but numbers and strings: trainers take the keys of their first
sample and index all others with them. What does not apply is -1.0 or an empty string.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from keck.adapters.rewards import RewardPolicy, reward_for
from keck.messages import EvalDone, Flag
from keck.verdict import Verdict

__all__ = ["KEYS", "Score", "Value", "format_error", "not_judged", "scored"]

Value = float | int | str
_NONE: Final = -1.0
_MAX_FEEDBACK: Final = 2_000
_FEEDBACK_HEAD: Final = 600


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer learns of one sample."""

    reward: float | None
    """None: leave the sample out; it failed for reasons that are not the model's."""
    facts: dict[str, Value]
    """The verdict; the keys are `KEYS`."""

    @property
    def is_masked(self) -> bool:
        """Whether the sample must be left out."""
        return self.reward is None

    def reward_or(self, neutral: float) -> float:
        """The reward, or a neutral value for a sample that is left out some other way."""
        return neutral if self.reward is None else self.reward


def scored(event: EvalDone, policy: RewardPolicy) -> Score:
    """The score of a verdict."""
    timing, spent = event.timing, event.durations_s
    facts: dict[str, Value] = {
        "check_id": event.check_id,
        "verdict": str(event.verdict),
        "stage": event.stage,
        "valid": int(event.valid),
        "mask_sample": int(event.mask_sample),
        "failure_kind": event.failure_kind,
        "compiled": _flag_of(event.compiled),
        "correct": _flag_of(event.correct),
        "speedup": timing.speedup if timing else _NONE,
        "speedup_lower": timing.speedup_lower if timing else _NONE,
        "candidate_ms": timing.candidate_ms.median if timing else _NONE,
        "reference_ms": timing.reference_ms.median if timing else _NONE,
        "noise": timing.noise if timing else _NONE,
        "hack": int(event.verdict is Verdict.HACK_DETECTED),
        "feedback": _feedback(event),
        "queued_s": spent.queued,
        "compile_s": spent.compile,
        "gpu_held_s": spent.gpu_held,
        "total_s": spent.total,
        "attempts": event.attempts,
    }
    return Score(reward=reward_for(event, policy), facts=facts)


def format_error(problem: str, policy: RewardPolicy) -> Score:
    """The score of an answer in which no candidate was found, which never reached Keck."""
    facts = _unsent("format_error", feedback=problem) | {"valid": 1, "compiled": 0.0, "correct": 0.0}
    return Score(reward=policy.format_error, facts=facts)


def not_judged(
    verdict: Literal["infra_error", "deadline_exceeded"], *, failure_kind: str, reason: str
) -> Score:
    """The score of a sample that there is no verdict on."""
    return Score(
        reward=None,
        facts=_unsent(verdict, feedback=reason) | {"mask_sample": 1, "failure_kind": failure_kind},
    )


def _unsent(verdict: str, *, feedback: str) -> dict[str, Value]:
    return {
        "check_id": "",
        "verdict": verdict,
        "stage": "format",
        "valid": 0,
        "mask_sample": 0,
        "failure_kind": "",
        "compiled": _NONE,
        "correct": _NONE,
        "speedup": _NONE,
        "speedup_lower": _NONE,
        "candidate_ms": _NONE,
        "reference_ms": _NONE,
        "noise": _NONE,
        "hack": 0,
        "feedback": feedback[:_MAX_FEEDBACK],
        "queued_s": 0.0,
        "compile_s": 0.0,
        "gpu_held_s": 0.0,
        "total_s": 0.0,
        "attempts": 0,
    }


KEYS: Final = tuple(_unsent("", feedback=""))
"""The keys of a score's facts, in order."""


def _flag_of(value: bool | None) -> float:
    return _NONE if value is None else float(value)


def _feedback(event: EvalDone) -> str:
    """What a model may be told: the message, what a rejecting flag found, head and tail of the log."""
    rejected = [_flag_text(flag) for flag in event.flags if flag.severity == "reject"]
    log = [] if event.verdict is Verdict.PASSED else [event.log.strip()]
    text = "\n".join(part for part in (event.message, *rejected, *log) if part)
    if len(text) <= _MAX_FEEDBACK:
        return text
    cut = "\n[…]\n"
    return text[:_FEEDBACK_HEAD] + cut + text[-(_MAX_FEEDBACK - _FEEDBACK_HEAD - len(cut)) :]


def _flag_text(flag: Flag) -> str:
    return f"{flag.code}: {flag.evidence}"
