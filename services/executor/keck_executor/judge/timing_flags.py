"""What about the timing a reader of the verdict should know."""

from __future__ import annotations

from keck.messages import Flag, Timing

__all__ = ["timing_flags"]

_DISAGREEMENT = 0.1


def timing_flags(timing: Timing) -> list[Flag]:
    """Findings on how the times were taken; none of them changes a time."""
    flags = []
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
    return flags
