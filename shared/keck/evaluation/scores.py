"""KernelBench's numbers over a set of results.

``fast_p`` is the share of generations that are correct and more than `p` times as fast as the baseline. A generation that
could not be judged, for reasons that are not its own, counts nowhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from keck.evaluation.results import Result

__all__ = [
    "FAST_P",
    "Summary",
    "best_of_each",
    "fast_p",
    "geometric_mean",
    "speedups_of",
    "summaries_of",
    "summary_of",
]

FAST_P: Final = (0.0, 0.5, 0.8, 1.0, 1.5, 2.0)
"""Thresholds that are reported."""
OVERALL: Final = "all"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a set, or of one level of it."""

    title: str
    generations: int
    """Judged or not."""
    judged: int
    compiled: int
    correct: int
    timed: int
    """Correct ones with a speedup."""
    fast_p: dict[str, float]
    """By threshold; of the judged ones; all 0 where there are none."""
    speedup: float | None
    """Geometric mean over the correct ones; null where none was timed."""
    speedup_of_faster: float | None
    """The same over those that are faster than the baseline."""
    verdicts: dict[str, int]
    """How many of each, the most frequent first; ``error`` where there is none."""
    weak: int
    """Correct ones whose task an answer that computes nothing would pass."""


def summaries_of(results: Sequence[Result]) -> list[Summary]:
    """Overall, and by level where there are several; and the best sample of each problem where there are several."""
    levels = sorted({result.level for result in results if result.level is not None})
    found = [summary_of(OVERALL, results)]
    if len(levels) > 1:
        found += [
            summary_of(f"level {level}", [result for result in results if result.level == level])
            for level in levels
        ]
    best = best_of_each(results)
    if len(best) < len(results) and levels:
        found.append(summary_of("best of each problem", best))
    return found


def summary_of(title: str, results: Sequence[Result]) -> Summary:
    """The numbers of these results."""
    judged = [result for result in results if result.is_judged]
    correct = [result for result in judged if _passed(result)]
    speedups = speedups_of(correct)
    verdicts = Counter(str(result.verdict.verdict) if result.verdict else "error" for result in results)
    return Summary(
        title=title,
        generations=len(results),
        judged=len(judged),
        compiled=sum(result.verdict is not None and result.verdict.compiled is True for result in judged),
        correct=len(correct),
        timed=len(speedups),
        fast_p={f"{p:g}": fast_p(speedups, len(judged), p, correct=len(correct)) for p in FAST_P},
        speedup=geometric_mean(speedups),
        speedup_of_faster=geometric_mean(value for value in speedups if value > 1),
        verdicts=dict(verdicts.most_common()),
        weak=sum(_is_weak(result) for result in correct),
    )


def fast_p(speedups: Iterable[float], judged: int, p: float, *, correct: int) -> float:
    """The share of judged generations that are correct and faster than `p` times the baseline.

    Above 0 only what was timed can count; for 0 being correct is enough.
    """
    if not judged:
        return 0.0
    return (correct if p <= 0 else sum(value > p for value in speedups)) / judged


def geometric_mean(values: Iterable[float]) -> float | None:
    """None where there are none."""
    logs = [math.log(value) for value in values if value > 0]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def speedups_of(results: Iterable[Result]) -> list[float]:
    """Speedups of those that passed and were timed."""
    return [
        result.verdict.timing.speedup
        for result in results
        if result.verdict is not None and _passed(result) and result.verdict.timing is not None
    ]


def best_of_each(results: Iterable[Result]) -> list[Result]:
    """Of each problem the fastest correct sample; where none is correct, one that was judged if there is one."""
    best: dict[object, Result] = {}
    for result in results:
        key = (result.level, result.problem) if result.problem is not None else result.name
        if key not in best or _rank(result) > _rank(best[key]):
            best[key] = result
    return list(best.values())


def _rank(result: Result) -> tuple[bool, bool, float]:
    timing = result.verdict.timing if result.verdict else None
    return _passed(result), result.is_judged, timing.speedup if timing and _passed(result) else 0.0


def _passed(result: Result) -> bool:
    return result.verdict is not None and result.verdict.verdict.standing.passed


def _is_weak(result: Result) -> bool:
    return result.verdict is not None and any(flag.code == "weak_task" for flag in result.verdict.flags)
