"""Medians with confidence, and the speedup that can be stood by. Pure arithmetic over seconds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from keck.messages import Interval

__all__ = [
    "GAIN",
    "SHORT_MS",
    "Speedup",
    "charged_s",
    "interval_at_least",
    "interval_ms",
    "is_settled",
    "is_slowed",
    "noise_of",
    "speedup_of",
    "spread",
]

GAIN = 1.05
"""Above this it is worth asking where a speedup comes from."""
_SETTLED = 0.025
_SLOWED = 1.05
SHORT_MS = 3e-3
_WAKING_S = SHORT_MS / 1e3
"""On an H100, between the medians of both sides of twenty honest pairs: -31 to +21 us, by the bounds of both less."""


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
    low, high = _bounds(samples_s)
    return Interval(
        median=1e3 * median(samples_s),
        ci95=(1e3 * low, 1e3 * high),
        n=calls if calls is not None else len(samples_s),
    )


def interval_at_least(interval: Interval, least_ms: float) -> Interval:
    """The same with no number below that."""
    low, high = interval.ci95
    return Interval(
        median=max(interval.median, least_ms), ci95=(max(low, least_ms), max(high, least_ms)), n=interval.n
    )


def is_slowed(during: Interval, after: Interval) -> bool:
    """Whether what was timed beside a candidate took more than 5 % longer than without it, by both intervals."""
    return during.ci95[0] > _SLOWED * after.ci95[1]


def is_settled(*sides: Sequence[float], uncertainty_s: float) -> bool:
    """Whether each side's median is known to 2.5 %, or as well as the clock can tell: half its interval is no more.

    Args:
        sides: seconds per call.
        uncertainty_s: of one of them, in seconds; what lies within it is not the kernel's.
    """
    for samples in sides:
        interval = interval_ms(samples)
        enough = max(_SETTLED * interval.median, 1e3 * uncertainty_s)
        if not interval.ci95[1] - interval.ci95[0] <= 2 * enough:
            return False
    return True


def charged_s(
    candidate: Sequence[float],
    reference: Sequence[float],
    *,
    candidate_enqueued_s: float,
    reference_enqueued_s: float,
) -> float:
    """What a call of the candidate is charged with, given what calls of both sides take that nothing else is enqueued with.

    Such a call differs from one of many by what waking the device costs, and what it then has in its caches: by the
    same for both sides, to 3 microseconds. What it takes more than that is work that enqueued calls do for each other;
    and as much as that, calls of 3 microseconds could hide, so that nobody is charged less. Nobody is charged more than
    the reference takes, for several streams take long to wake.

    Args:
        candidate, reference: seconds of single calls.
        candidate_enqueued_s, reference_enqueued_s: of calls among many.
    """
    between = _bounds(candidate)[0] - _bounds(reference)[1]
    excess = between - (candidate_enqueued_s - reference_enqueued_s) - _WAKING_S
    least = max(candidate_enqueued_s + excess, _WAKING_S)
    return max(candidate_enqueued_s, min(least, reference_enqueued_s))


def _bounds(samples: Sequence[float]) -> tuple[float, float]:
    """Of the 95 % confidence interval of the median: ranks n/2 -+ 1.96 sqrt(n)/2."""
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach))]


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
