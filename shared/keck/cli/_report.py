"""A verdict for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from keck.cli._talk import plain
from keck.messages import Correctness, Durations, EvalDone, Flag, Interval, Timing
from keck.verdict import Fault

__all__ = ["report_of"]

_LOG_LINES = 30
_LABEL_WIDTH = 13
_STYLES = {Fault.NOBODY: "bold green", Fault.CANDIDATE: "bold red"}
_WHOSE = {
    Fault.TASK: "the reference is at fault, not the candidate: leave the sample out",
    Fault.CALLER: "not the candidate's doing: leave the sample out",
    Fault.KECK: "not the candidate's doing: leave the sample out",
}


def report_of(event: EvalDone) -> Text:
    """The verdict as a block of labelled lines, ending in the log where there is one to read."""
    report = Text()
    fault = event.verdict.standing.fault
    for label, value in _rows(event):
        style = _STYLES.get(fault, "bold yellow") if label == "verdict" else ""
        report.append(f"{label:<{_LABEL_WIDTH}}", style="dim")
        report.append(f"{plain(value)}\n", style=style)
    if event.log and not event.verdict.standing.passed:
        lines = plain(event.log).rstrip().splitlines()
        left_out = f" (the last {_LOG_LINES} of {len(lines)} lines)" if len(lines) > _LOG_LINES else ""
        report.append(f"log{left_out}\n", style="dim")
        report.append("\n".join(f"  {line}" for line in lines[-_LOG_LINES:]) + "\n")
    report.rstrip()
    return report


def _rows(event: EvalDone) -> Iterator[tuple[str, str]]:
    yield "verdict", str(event.verdict)
    if event.message:
        yield "message", event.message
    standing = event.verdict.standing
    if standing.fault in _WHOSE:
        kind = f" ({event.failure_kind})" if event.failure_kind else ""
        yield "whose fault", _WHOSE[standing.fault] + kind
    yield "stage", event.stage
    if event.correctness is not None:
        yield "correctness", _correctness(event.correctness)
    if event.timing is not None:
        yield from _timing(event.timing)
    for flag in event.flags:
        yield "flag", _flag(flag)
    build = event.build
    if build.recipe != "none":
        arch = f" for {build.arch}" if build.arch else ""
        yield (
            "build",
            f"{build.recipe}{arch}, cache {build.cache}, {build.wall_s:.1f} s, {build.cpu_s:.1f} CPU s",
        )
    yield "durations", _durations(event.durations_s)
    yield "check", f"{event.check_id} (run {event.run}, generation {event.generation})"


def _durations(spent: Durations) -> str:
    return (
        f"queued {spent.queued:.2f} s, compile {spent.compile:.2f} s, "
        f"device held {spent.gpu_held:.2f} s, total {spent.total:.2f} s"
    )


def _correctness(found: Correctness) -> str:
    if found.comparison == "accept_output":
        return f"{found.calls_checked} calls, accepted by the task's accept_output; weights {found.weights}"
    by_scale = " (in units of the output's spread)" if found.comparison == "scaled" else ""
    return (
        f"{found.calls_checked} calls, {found.mismatched} of {found.total} elements outside "
        f"atol {found.tolerance.atol:g} + rtol {found.tolerance.rtol:g}{by_scale}; "
        f"largest error {found.max_abs_err:.3g} absolute, {found.max_rel_err:.3g} relative; "
        f"weights {found.weights}"
    )


def _timing(timing: Timing) -> Iterator[tuple[str, str]]:
    yield "candidate", _interval(timing.candidate_ms)
    yield "reference", f"{_interval(timing.reference_ms)}, {timing.baseline}"
    how = f"{timing.device}, {timing.batch}, noise {timing.noise:.1%}"
    yield "speedup", f"{timing.speedup:.3g}, at least {timing.speedup_lower:.3g} ({how})"


def _interval(interval: Interval) -> str:
    low, high = interval.ci95
    return f"{interval.median:.4g} ms median, 95 % in [{low:.4g}, {high:.4g}], {interval.n} calls"


def _flag(flag: Flag) -> str:
    return f"{flag.severity} {flag.code}: {flag.evidence}"
