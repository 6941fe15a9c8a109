"""Verdicts in the shape of the original service: pure functions from values to values."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from keck.kinds import Kind
from keck.messages import EvalDone
from keck.verdict import Verdict
from keck_gateway.bodies import LegacyAnswer, SpeedReport, TorchProfile
from keck_gateway.problems import Problem

__all__ = ["MAX_LOG_CHARS", "Projected", "failed", "legacy_answer", "missing_fields", "of_problem"]

MAX_LOG_CHARS = 4000
"""As much of a log as a failure's text carries; the v1 verdict has all of it."""

_LOG_HEAD_CHARS = 1000

_STATUS = {
    Verdict.INFRA_ERROR: HTTPStatus.SERVICE_UNAVAILABLE,
    Verdict.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Verdict.REFERENCE_ERROR: HTTPStatus.UNPROCESSABLE_ENTITY,
    Verdict.CANCELLED: HTTPStatus.CONFLICT,
}
"""What is not the candidate's doing is never a 200 that a trainer could take for a reward."""


class Projected(NamedTuple):
    """A status and the body that goes with it."""

    status: HTTPStatus
    answer: LegacyAnswer


_CALLERS_OWN = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
)


def legacy_answer(event: EvalDone) -> Projected:
    """A verdict as ``/compute_score`` and ``/check_torch`` tell it."""
    standing = event.verdict.standing
    answer = LegacyAnswer(
        formated=bool(standing.formated),
        compiled=bool(standing.compiled),
        passed=standing.passed,
        msg=_speed_report(event) if standing.passed else _failure_text(event),
    )
    return Projected(_STATUS.get(event.verdict, HTTPStatus.OK), answer)


def missing_fields(kind: Kind, *, candidate: str | None, reference: str | None) -> LegacyAnswer | None:
    """The answer to a form that lacks a field; None if it has both."""
    has_candidate = bool(candidate and candidate.strip())
    has_reference = bool(reference and reference.strip())
    if has_candidate and has_reference:
        return None
    lacks_reference = f"the form field `{kind.reference_field}` is missing"
    if has_candidate:
        return failed(f"failed: cannot find the reference: {lacks_reference}")
    if has_reference:
        return failed(kind.missing_candidate)
    return failed(f"{kind.missing_candidate}, and {lacks_reference}")


def of_problem(problem: Problem) -> Projected:
    """Any error of ours in the original shape; a client's own mistake is told as what it is."""
    whose = "request" if problem.status in _CALLERS_OWN else "infrastructure"
    return Projected(HTTPStatus(problem.status), failed(f"failed: {whose}: {problem.detail}"))


def failed(msg: str) -> LegacyAnswer:
    """A failure before anything was learnt of the candidate."""
    return LegacyAnswer(formated=False, compiled=False, passed=False, msg=msg)


def _speed_report(event: EvalDone) -> SpeedReport:
    timing, profile = event.timing, event.profile
    return SpeedReport(
        torch_profile=TorchProfile(torch=profile.torch, cuda=profile.cuda) if profile else None,
        torch_time=timing.reference_ms.median / 1000 if timing else None,
        cuda_time=timing.candidate_ms.median / 1000 if timing else None,
        speedup=timing.speedup if timing else None,
    )


def _failure_text(event: EvalDone) -> str:
    if event.verdict is Verdict.REFERENCE_ERROR:
        start = "failed: reference"
    elif event.valid:
        start = f"failed: {event.verdict}"
    else:
        kind = f" ({event.failure_kind})" if event.failure_kind else ""
        start = f"failed: infrastructure: {event.verdict}{kind}"
    log = _capped(event.log.strip())
    return f"{start}: {event.message}" + (f"\n{log}" if log else "")


def _capped(log: str) -> str:
    """Head and tail: a compiler's first error is at the top, a traceback's last line at the end."""
    if len(log) <= MAX_LOG_CHARS:
        return log
    left_out = len(log) - MAX_LOG_CHARS
    tail = log[-(MAX_LOG_CHARS - _LOG_HEAD_CHARS) :]
    return f"{log[:_LOG_HEAD_CHARS]}\n[... {left_out} characters left out ...]\n{tail}"
