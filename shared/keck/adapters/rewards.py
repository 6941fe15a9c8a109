"""What a verdict is worth to a trainer.

Keck gives verdicts; this table makes numbers of them. Every number is a field of :class:`RewardPolicy` and may be set in a
trainer's configuration.

================================================================  ===============================================
verdict                                                           reward
================================================================  ===============================================
``passed``                                                        `passed` + `speedup_weight` times the speedup
``format_error``                                                  `format_error`
``compile_error``, ``compile_timeout``, ``load_error``            `not_built`
``runtime_error``, ``crashed``, ``exec_timeout``,
``out_of_memory``, ``shape_mismatch``, ``dtype_mismatch``,
``wrong_result``                                                  `wrong`
``hack_detected``                                                 `hack`
``reference_error``, ``cancelled``, ``deadline_exceeded``,
``infra_error``                                                   none: the sample is masked
================================================================  ===============================================

The speedup is the lower end of its confidence interval, so that noise is not rewarded, and at most `speedup_cap`. A check
that was not timed has none.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from keck.messages import EvalDone
from keck.verdict import Verdict

__all__ = ["RewardPolicy", "reward_for", "speedup_counted"]

_Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]


class RewardPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers for verdicts; the default pays nothing for less than a right answer, and takes for cheating."""

    passed: _Number = 0.3
    speedup_weight: _Number = 1.0
    speedup_cap: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 10.0
    format_error: _Number = 0.0
    not_built: _Number = 0.0
    wrong: _Number = 0.0
    hack: _Number = -1.0


_NOT_BUILT = frozenset({Verdict.COMPILE_ERROR, Verdict.COMPILE_TIMEOUT, Verdict.LOAD_ERROR})


def reward_for(event: EvalDone, policy: RewardPolicy) -> float | None:
    """The reward of a verdict; None where the sample must be left out."""
    if event.mask_sample:
        return None
    match event.verdict:
        case Verdict.PASSED:
            return policy.passed + policy.speedup_weight * speedup_counted(event, policy)
        case Verdict.FORMAT_ERROR:
            return policy.format_error
        case Verdict.HACK_DETECTED:
            return policy.hack
        case verdict if verdict in _NOT_BUILT:
            return policy.not_built
        case _:
            return policy.wrong


def speedup_counted(event: EvalDone, policy: RewardPolicy) -> float:
    """The speedup as far as it is rewarded; 0 where nothing was timed."""
    return min(event.timing.speedup_lower, policy.speedup_cap) if event.timing else 0.0
