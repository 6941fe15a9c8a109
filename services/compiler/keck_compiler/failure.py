"""The candidate's failure before it could run: a value that becomes the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from keck.messages import BuildRecord, Stage
from keck.verdict import Verdict

__all__ = ["Failure", "format_failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a check ends at the compiler."""

    verdict: Verdict
    stage: Stage
    message: str
    """One line for people."""
    log: str = ""
    build: BuildRecord | None = None
    failure_kind: str = ""


def format_failure(message: str, *, log: str = "") -> Failure:
    """The candidate is not of a form that can be judged."""
    return Failure(verdict=Verdict.FORMAT_ERROR, stage="format", message=message, log=log)
