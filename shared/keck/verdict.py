"""The closed set of answers, and whose fault each one is.

A candidate's failure is a *value* of :class:`Verdict`; a failure of ours is an exception until the moment
it has to be told to somebody, and then one of the three infrastructure verdicts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["ExitCode", "Fault", "Standing", "Verdict"]


class Verdict(StrEnum):
    """How a check ended. Every check ends in exactly one of these."""

    PASSED = "passed"
    FORMAT_ERROR = "format_error"
    COMPILE_ERROR = "compile_error"
    COMPILE_TIMEOUT = "compile_timeout"
    LOAD_ERROR = "load_error"
    RUNTIME_ERROR = "runtime_error"
    CRASHED = "crashed"
    EXEC_TIMEOUT = "exec_timeout"
    OUT_OF_MEMORY = "out_of_memory"
    SHAPE_MISMATCH = "shape_mismatch"
    DTYPE_MISMATCH = "dtype_mismatch"
    WRONG_RESULT = "wrong_result"
    HACK_DETECTED = "hack_detected"
    REFERENCE_ERROR = "reference_error"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INFRA_ERROR = "infra_error"

    @property
    def standing(self) -> Standing:
        """What this verdict means for the sample it judges."""
        return _STANDING[self]


class Fault(StrEnum):
    """Who caused a verdict."""

    NOBODY = "nobody"
    CANDIDATE = "candidate"
    TASK = "task"
    CALLER = "caller"
    KECK = "keck"


class ExitCode:
    """Exit codes of the command line."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3


class Standing(NamedTuple):
    """What follows from a verdict.

    `formated`, `compiled` and `passed` are the original service's three booleans; None where the check ended
    before anything was learnt about the candidate. `valid` says the verdict is the candidate's own doing, and
    `mask_sample` (its opposite) that a trainer must not learn from it.
    """

    formated: bool | None
    compiled: bool | None
    passed: bool
    fault: Fault
    exit_code: int

    @property
    def valid(self) -> bool:
        """Whether the verdict says something about the candidate."""
        return self.fault in (Fault.NOBODY, Fault.CANDIDATE)

    @property
    def mask_sample(self) -> bool:
        """Whether a trainer must leave the sample out."""
        return not self.valid


_FAILED = ExitCode.FAILED
_INFRA = ExitCode.INFRASTRUCTURE
_AFTER_BUILD = Standing(True, True, False, Fault.CANDIDATE, _FAILED)

_STANDING: dict[Verdict, Standing] = {
    Verdict.PASSED: Standing(True, True, True, Fault.NOBODY, ExitCode.PASSED),
    Verdict.FORMAT_ERROR: Standing(False, False, False, Fault.CANDIDATE, _FAILED),
    Verdict.COMPILE_ERROR: Standing(True, False, False, Fault.CANDIDATE, _FAILED),
    Verdict.COMPILE_TIMEOUT: Standing(True, False, False, Fault.CANDIDATE, _FAILED),
    Verdict.LOAD_ERROR: _AFTER_BUILD,
    Verdict.RUNTIME_ERROR: _AFTER_BUILD,
    Verdict.CRASHED: _AFTER_BUILD,
    Verdict.EXEC_TIMEOUT: _AFTER_BUILD,
    Verdict.OUT_OF_MEMORY: _AFTER_BUILD,
    Verdict.SHAPE_MISMATCH: _AFTER_BUILD,
    Verdict.DTYPE_MISMATCH: _AFTER_BUILD,
    Verdict.WRONG_RESULT: _AFTER_BUILD,
    Verdict.HACK_DETECTED: _AFTER_BUILD,
    Verdict.REFERENCE_ERROR: Standing(True, True, False, Fault.TASK, _INFRA),
    Verdict.CANCELLED: Standing(None, None, False, Fault.CALLER, _INFRA),
    Verdict.DEADLINE_EXCEEDED: Standing(None, None, False, Fault.CALLER, _INFRA),
    Verdict.INFRA_ERROR: Standing(None, None, False, Fault.KECK, _INFRA),
}
