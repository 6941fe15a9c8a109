"""Verdicts of checks that end before anybody could judge them: cancelled, too late, or lost by us."""

from __future__ import annotations

import time

from keck._version import __version__
from keck.hashing import sha256_hex
from keck.messages import CheckRequested, CompileDone, Durations, EvalDone, Hashes, verdict_of
from keck.verdict import Verdict

__all__ = ["cancelled", "lost", "overdue"]


def cancelled(event: CheckRequested | CompileDone, reason: str = "") -> EvalDone:
    """Somebody does not want it any more; `reason` is theirs."""
    message = "cancelled" + (f": {' '.join(reason.split())}" if reason else "")
    return _ended(event, Verdict.CANCELLED, message, failure_kind="")


def overdue(event: CheckRequested | CompileDone, doing: str) -> EvalDone:
    """Its deadline came first; `doing` ends the sentence that begins "the check's deadline passed while"."""
    message = f"the check's deadline passed while {doing}"
    return _ended(event, Verdict.DEADLINE_EXCEEDED, message, failure_kind="deadline")


def lost(
    event: CheckRequested | CompileDone, reason: str, *, failure_kind: str, attempts: int = 1
) -> EvalDone:
    """We could not do it."""
    message = f"given up after {attempts} attempt{'s'[: attempts != 1]}: {reason}"
    return _ended(event, Verdict.INFRA_ERROR, message, failure_kind=failure_kind, attempts=attempts)


def _ended(
    event: CheckRequested | CompileDone,
    verdict: Verdict,
    message: str,
    *,
    failure_kind: str,
    attempts: int = 1,
) -> EvalDone:
    built = isinstance(event, CompileDone)
    return verdict_of(
        event,
        verdict,
        stage="compile" if built else "format",
        message=message,
        failure_kind=failure_kind,
        attempts=attempts,
        durations_s=Durations(
            compile=event.compile_s if isinstance(event, CompileDone) else 0.0,
            total=max(0.0, time.time() - event.submitted_at),
        ),
        hashes=_hashes(event),
        environment={"judge": __version__},
    )


def _hashes(event: CheckRequested | CompileDone) -> Hashes:
    if isinstance(event, CompileDone):
        return Hashes(candidate=event.candidate.sha256, reference=event.reference.sha256, artifact="")
    return Hashes(candidate=sha256_hex(event.candidate), reference=sha256_hex(event.reference), artifact="")
