"""What a lint found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Self

import msgspec
from rich.text import Text

from keck.cli._talk import plain
from keck.messages import EvalDone, Lint, NullAnswer
from keck.verdict import ExitCode, Fault

__all__ = ["Linted", "details_of", "table_of"]

_ROUNDED = "bf16_operands"
_STYLES = {
    "sound": "bold green",
    "weak": "bold yellow",
    "failed": "bold red",
    "infrastructure": "bold yellow",
}
_EXIT_CODES = {
    "sound": ExitCode.PASSED,
    "weak": ExitCode.FAILED,
    "failed": ExitCode.FAILED,
    "infrastructure": ExitCode.INFRASTRUCTURE,
}
_SUMMARY = ("reference", "result", "compared by", "pass the tolerance", "bf16 operands", "own error", "note")
_DETAILS = ("answer", "output", "passes", "by scale", "under stress", "error", "of allowed")


class Linted(msgspec.Struct, frozen=True, kw_only=True):
    """One reference, and what the lint came to."""

    reference: str
    """Path of the file."""
    status: Literal["sound", "weak", "failed", "infrastructure"]
    """``failed``: it cannot be judged against; ``infrastructure``: not known, for reasons of ours."""
    verdict: EvalDone

    @classmethod
    def of(cls, reference: str, verdict: EvalDone) -> Self:
        """The verdict on a reference, read as a lint."""
        return cls(reference=reference, status=_status(verdict), verdict=verdict)

    @property
    def exit_code(self) -> int:
        """The command's, if there were no other reference."""
        return _EXIT_CODES[self.status]


def table_of(found: Sequence[Linted]) -> Text:
    """One line for each reference, and a count."""
    rows = [_summary(one) for one in found]
    table = _aligned(_SUMMARY, rows, [_STYLES[one.status] for one in found], styled=1)
    counts = ", ".join(
        f"{count} {status}" for status in _STYLES if (count := sum(one.status == status for one in found))
    )
    return table.append(f"\n{len(found)} references: {counts}")


def details_of(one: Linted) -> Text:
    """Everything that was tried on one reference."""
    text = Text()
    text.append(f"{one.status}", style=_STYLES[one.status])
    text.append(f"  {plain(one.reference)}\n")
    lint = one.verdict.lint
    if one.status in ("failed", "infrastructure") or lint is None:
        return text.append(f"{one.verdict.verdict}: {plain(one.verdict.message)}")
    facts = {
        "compared by": _comparison(lint),
        "repetition": "the same to the last bit"
        if not lint.repeat_max_abs_err
        else f"differs by {lint.repeat_max_abs_err:.3g}",
        "own error": _own(lint),
        "stress inputs": {True: "compared", False: "none defined", None: "not needed"}[lint.stress_inputs],
        "input sets": str(lint.sets),
    }
    for name, value in facts.items():
        text.append(f"{name:<15}", style="dim")
        text.append(f"{value}\n")
    for flag in one.verdict.flags:
        text.append(f"{flag.severity:<15}", style="dim")
        text.append(f"{flag.code}: {plain(flag.evidence)}\n")
    rows = [
        (
            answer.answer,
            str(answer.output),
            _yes(answer.passes),
            _yes(answer.passes_scaled),
            _yes(answer.passes_stress),
            f"{answer.max_abs_err:.3g}",
            "-" if answer.of_allowed is None else f"{answer.of_allowed:.3g}",
        )
        for answer in lint.answers
    ]
    text.append("\n")
    return text.append_text(_aligned(_DETAILS, rows, [""] * len(rows), styled=0))


def _status(verdict: EvalDone) -> Literal["sound", "weak", "failed", "infrastructure"]:
    if verdict.verdict.standing.fault in (Fault.KECK, Fault.CALLER):
        return "infrastructure"
    if not verdict.verdict.standing.passed or verdict.lint is None:
        return "failed"
    return "weak" if verdict.lint.weak else "sound"


def _summary(one: Linted) -> tuple[str, ...]:
    lint = one.verdict.lint
    if one.status in ("failed", "infrastructure") or lint is None:
        return (one.reference, one.status, "", "", "", "", f"{one.verdict.verdict}: {one.verdict.message}")
    rounded = [answer for answer in lint.answers if answer.answer == _ROUNDED]
    return (
        one.reference,
        one.status,
        _comparison(lint),
        ", ".join(_names(lint.answers)) or "nothing empty",
        "not tried" if not rounded else "pass" if all(answer.passes for answer in rounded) else "fail",
        _own(lint),
        "",
    )


def _names(answers: Iterable[NullAnswer]) -> list[str]:
    return list(dict.fromkeys(a.answer for a in answers if a.passes and a.answer != _ROUNDED))


def _comparison(lint: Lint) -> str:
    return {"scaled": "scale", "accept_output": "the task's accept_output"}.get(lint.comparison, "tolerance")


def _own(lint: Lint) -> str:
    return "unknown" if lint.own_rms_err is None else f"{lint.own_rms_err:.1e} ({lint.oracle})"


def _yes(passes: bool | None) -> str:
    return "" if passes is None else "yes" if passes else "no"


def _aligned(
    headings: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], *, styled: int
) -> Text:
    """Columns as wide as they need to be; the last one runs on."""
    cleaned = [[plain(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
    text = Text()
    for row, style in zip((headings, *cleaned), ("dim", *styles), strict=True):
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            shown = f"{cell:<{width}}  " if number < len(widths) - 1 else cell
            text.append(shown, style=style if number == styled or row is headings else "")
        text.rstrip()
        text.append("\n")
    text.rstrip()
    return text
