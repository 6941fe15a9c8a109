"""Medians with confidence, and the speedup that can be stood by. Pure arithmetic over seconds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from keck.messages import Interval

__all__ = ["Speedup", "interval_ms", "is_settled", "noise_of", "speedup_of", "spread"]

_SETTLED = 0.025


@dataclass(frozen=True, slots=True)
class Speedup:
    """Reference over candidate: the estimate and its lower bound."""

    estimate: float
    lower: float


def interval_ms(samples_s: Sequence[float], *, calls: int | None = None) -> Interval:
    """Median and its 95 % confidence interval in milliseconds, from seconds a call.

    The interval is the distribution-free one from order statistics (ranks n/2 -+ 1.96 sqrt(n)/2).

    Args:
        samples_s: seconds per call, one for each call or burst; not empty.
        calls: how many calls the samples stand for, where each is the mean of several.
    """
    ordered = sorted(samples_s)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = max(0, math.floor(n / 2 - reach))
    high = min(n - 1, math.ceil(n / 2 + reach))
    return Interval(
        median=1e3 * median(ordered),
        ci95=(1e3 * ordered[low], 1e3 * ordered[high]),
        n=calls if calls is not None else n,
    )


def is_settled(*sides: Sequence[float]) -> bool:
    """Whether each side's median is known to 2.5 %: half its interval is no more than that of it."""
    for samples in sides:
        interval = interval_ms(samples)
        if not interval.ci95[1] - interval.ci95[0] <= 2 * _SETTLED * interval.median:
            return False
    return True


def spread(samples: Sequence[float]) -> float:
    """The distance from the 10th to the 90th percentile."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return ordered[round(0.9 * last)] - ordered[round(0.1 * last)]


def noise_of(samples: Sequence[float]) -> float:
    """Interquartile range over median: 0 for a perfectly steady clock."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    middle = median(ordered)
    width = ordered[round(0.75 * last)] - ordered[round(0.25 * last)]
    # JSON has no infinity, which the quotient of a second and next to nothing may be.
    return min(width / middle, sys.float_info.max) if middle > 0 else 0.0


def speedup_of(candidate: Interval, reference: Interval, *, uncertainty_ms: float) -> Speedup:
    """How much faster the candidate is, with no credit for what cannot be resolved.

    Below three times the uncertainty of a call two times cannot be told apart, so neither side counts for less
    than that: a kernel that vanishes in the clock's noise gains nothing by vanishing further.
    """
    floor = 3 * uncertainty_ms
    return Speedup(
        estimate=max(reference.median, floor) / max(candidate.median, floor, 1e-9),
        lower=max(reference.ci95[0], floor) / max(candidate.ci95[1], floor, 1e-9),
    )
