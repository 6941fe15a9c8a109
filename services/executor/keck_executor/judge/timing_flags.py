"""What about the timing a reader of the verdict should know."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from keck.messages import AloneMs, Flag, Interval, Timing
from keck_executor.judge.stats import SHORT_MS

__all__ = ["BUSY_S", "reference_slowed", "timing_flags"]

_DISAGREEMENT = 0.1
BUSY_S = 1e-3
"""Half of a time slice, which whoever runs has; making a context next door was seen to cost up to 0.4 ms."""


def timing_flags(timing: Timing, busy_s: Sequence[float] = ()) -> list[Flag]:
    """Findings on how the times were taken; none of them changes a time.

    Args:
        timing: as it will be told.
        busy_s: for each burst of the candidate, how late the judge's own work was before it, in seconds.
    """
    flags = []
    late = [seconds for seconds in busy_s if seconds > BUSY_S]
    if 2 * len(late) > len(busy_s):
        flags.append(
            Flag(
                code="timing.device_busy",
                # No more than that: several streams that wait for the flag look like a kernel that ran ahead of it.
                severity="info",
                evidence=f"before {len(late)} of {len(busy_s)} bursts the GPU was not idle: the judge's own work took "
                f"{1e3 * median(late):.1f} ms longer than it does (streams that wait, or kernels that run ahead)",
            )
        )
    if timing.device == "cuda" and timing.batch == "single":
        flags.append(
            Flag(
                code="timing.single_calls",
                severity="info",
                evidence=f"forward waits for its own results, so both sides were timed call by call; "
                f"times below {3e3 * timing.uncertainty_ms:.0f} us are not told apart",
            )
        )
    if timing.events_ms is not None:
        outside, events = timing.candidate_ms.median, timing.events_ms.candidate
        if abs(outside - events) > max(_DISAGREEMENT * outside, 3 * timing.uncertainty_ms):
            flags.append(
                Flag(
                    code="timing.clocks_disagree",
                    severity="warn",
                    evidence=f"{1e3 * outside:.2f} us a call by the judge's clock, which counts; "
                    f"{1e3 * events:.2f} us by events in the candidate's own process",
                )
            )
    if timing.alone_ms is not None and timing.charged_ms is not None:
        flags.append(_charged(timing, timing.alone_ms, timing.charged_ms))
    return flags


def _charged(timing: Timing, alone: AloneMs, charged_ms: float) -> Flag:
    told = (
        f"{1e3 * timing.candidate_ms.median:.2f} us a call where many are enqueued, {1e3 * alone.candidate:.2f} us alone "
        f"(the reference: {1e3 * timing.reference_ms.median:.2f} and {1e3 * alone.reference:.2f} us)"
    )
    if charged_ms <= SHORT_MS:
        return Flag(
            code="timing.short_calls",
            severity="info",
            evidence=f"{told}: calls this short cannot be told from calls that do each other's work. "
            f"Charged: {1e3 * charged_ms:.2f} us a call",
        )
    return Flag(
        code="timing.calls_merged",
        severity="warn",
        evidence=f"{told}: calls seem to do each other's work. Charged: {1e3 * charged_ms:.2f} us a call",
    )


def reference_slowed(during: Interval, after: Interval) -> Flag:
    """The flag of a reference that was slower beside the candidate than without it."""
    return Flag(
        code="timing.reference_slowed",
        severity="warn",
        evidence=f"the reference took {1e3 * during.median:.2f} us a call in turns with the candidate, and "
        f"{1e3 * after.median:.2f} us, which counts, once the candidate's processes were killed",
    )
