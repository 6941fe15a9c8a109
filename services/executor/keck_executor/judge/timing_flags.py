"""What about the timing a reader of the verdict should know."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from keck.messages import Flag, Timing

__all__ = ["BUSY_S", "timing_flags"]

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
        flags.append(
            Flag(
                code="timing.calls_merged",
                severity="warn",
                evidence=f"{1e3 * timing.candidate_ms.median:.2f} us a call where many are enqueued, "
                f"{1e3 * timing.alone_ms.candidate:.2f} us alone (the reference: "
                f"{1e3 * timing.reference_ms.median:.2f} and {1e3 * timing.alone_ms.reference:.2f} us): calls seem to "
                f"do each other's work. Charged: {1e3 * timing.charged_ms:.2f} us a call",
            )
        )
    return flags
