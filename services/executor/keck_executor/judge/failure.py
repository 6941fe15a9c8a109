"""How a check ends early: a runner's failure as a verdict."""

from __future__ import annotations

import re

from keck.verdict import Verdict
from keck_executor.judge.link import Side
from keck_executor.runner.wire import Reply, Status

__all__ = ["Failed", "failure_of", "text_of"]

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_VERDICTS = {
    Status.EXCEPTION: Verdict.RUNTIME_ERROR,
    Status.OUT_OF_MEMORY: Verdict.OUT_OF_MEMORY,
    Status.UNSUPPORTED: Verdict.FORMAT_ERROR,
    Status.MISSING: Verdict.LOAD_ERROR,
}


class Failed(Exception):
    """The check is decided: this side failed in this way."""

    def __init__(
        self,
        verdict: Verdict,
        message: str,
        *,
        detail: str = "",
        correct: bool | None = None,
        ended: str = "",
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message
        self.detail = detail
        self.correct = correct
        self.ended = ended


def failure_of(side: Side, reply: Reply, doing: str, *, otherwise: Verdict | None = None) -> Failed:
    """The failure that a reply reports.

    Args:
        side: whose reply it is; a reference's failure is never the candidate's.
        reply: of a status other than OK.
        doing: what was being done, for the message ("calling forward").
        otherwise: the verdict for an exception, where it is not ``runtime_error``.
    """
    detail = text_of(reply.text)
    message = f"{doing}: {_gist(detail)[:400]}"
    if side == "reference":
        return Failed(Verdict.REFERENCE_ERROR, f"the reference failed: {message}", detail=detail)
    verdict = _VERDICTS.get(reply.status, Verdict.RUNTIME_ERROR)
    if otherwise is not None and verdict is Verdict.RUNTIME_ERROR:
        verdict = otherwise
    return Failed(verdict, message, detail=detail)


def _gist(detail: str) -> str:
    """The line of a traceback that names the exception, which need not be the last; for people only."""
    lines = [line.rstrip() for line in detail.splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines or ["no reason given"])[-1].strip()


def text_of(raw: bytes) -> str:
    """Text from a runner, for people: capped by the protocol, control characters removed."""
    return _CONTROLS.sub("", raw.decode("utf-8", "replace"))
