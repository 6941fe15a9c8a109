"""Answers that compute nothing, and whether a comparison would take them for right.

Tried for one output at a time, over several input sets: an answer passes only if it does on every set, as a check
compares every set. Whoever is refuted early is not looked at further, so that a sound task costs a fraction of a
comparison.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from keck.messages import Tolerance
from keck_executor.judge.scaled import Allowance
from keck_executor.judge.slices import blocks, sample_of_blocks

__all__ = ["Answer", "Fit", "Null", "Target", "best_constant", "distance", "fit_of", "is_nearer"]

Answer = torch.Tensor | float
"""A tensor of the output's shape, or one number for all of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One output for one input set, and how it is compared."""

    expected: torch.Tensor
    tolerance: Tolerance
    allowance: Allowance | None = None
    """Of the scale-aware comparison; None: the tolerance decides."""

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Blocks of expected values, and what each may be off by."""
        for index, block in enumerate(blocks(self.expected)):
            if self.allowance is not None:
                yield block, self.allowance.of(index, block)
            else:
                yield block, self.tolerance.atol + self.tolerance.rtol * block.abs()


@dataclass(frozen=True, slots=True)
class Null:
    """An answer that computes nothing, for one output of one input set."""

    name: str
    value: Answer


@dataclass(frozen=True, slots=True)
class Fit:
    """How well an answer fits: over all sets where it passes, else as far as it was looked at."""

    passes: bool
    max_abs: float
    ratio: float
    """The largest error in parts of what is allowed there; above 1 fails. Finite, for JSON has no infinity."""


def fit_of(answers: Sequence[Answer], targets: Sequence[Target]) -> Fit:
    """Compare one answer for each set, whatever its kind, with what is expected for it."""
    max_abs = ratio = 0.0
    for answer, target in zip(answers, targets, strict=True):
        given = _like(answer, target.expected)
        for (expected, allowed), block in zip(target.parts(), given, strict=True):
            error = _error(block, expected)
            parts = torch.where(error == 0, 0.0, error / allowed)
            largest, worst = torch.stack([error.max(), parts.max()]).tolist()
            max_abs, ratio = max(max_abs, _finite(largest)), max(ratio, _finite(worst))
            if not worst <= 1.0:
                return Fit(False, max_abs, ratio)
    return Fit(True, max_abs, ratio)


def best_constant(targets: Sequence[Target]) -> tuple[float, bool]:
    """A constant that passes for all sets, if any does: exact, not a guess.

    A constant c passes where it lies in every interval ``[expected - allowed, expected + allowed]``, so one exists
    exactly if the largest lower end is no larger than the smallest upper end.

    Returns:
        the middle between those two ends, and whether it passes.
    """
    low, high = -math.inf, math.inf
    for target in targets:
        for expected, allowed in target.parts():
            if not bool(torch.isfinite(expected).all()):
                value = float(expected.flatten()[0])
                fits = all(fit_of([value], [each]).passes for each in targets)
                return (value if math.isfinite(value) else 0.0), fits
            ends = torch.stack([(expected - allowed).max(), (expected + allowed).min()]).tolist()
            low, high = max(low, ends[0]), min(high, ends[1])
            if low > high:
                return (low + high) / 2, False
    if low > high or not math.isfinite(low + high):
        return 0.0, low <= high
    return (low + high) / 2, True


def is_nearer(null: Null, output: torch.Tensor, *, than: torch.Tensor) -> bool:
    """Whether an output is nearer to a null answer than to the right one, by root mean square."""
    only = sample_of_blocks(output)
    return distance(null.value, output, only) < distance(than, output, only)


def distance(answer: Answer, expected: torch.Tensor, only: Collection[int] | None = None) -> float:
    """Root mean square of the difference over an output, or some blocks of it, where both are finite; 0 for nothing."""
    squares, count = 0.0, 0
    for block, wanted in zip(_like(answer, expected, only), blocks(expected, only), strict=True):
        error = block - wanted
        finite = torch.isfinite(error)
        found = torch.stack([torch.where(finite, error, 0.0).square().sum(), finite.sum().double()]).tolist()
        squares, count = squares + found[0], count + int(found[1])
    return math.sqrt(squares / count) if count else 0.0


def _like(
    answer: Answer, expected: torch.Tensor, only: Collection[int] | None = None
) -> Iterator[torch.Tensor]:
    """The answer in the blocks of what is expected."""
    if isinstance(answer, torch.Tensor):
        yield from blocks(answer, only)
    else:
        yield from (torch.full_like(block, answer) for block in blocks(expected, only))


def _error(given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """The distance; infinite where only one is a number, or they are different ones that are none."""
    same = torch.where(torch.isnan(expected), torch.isnan(given), given == expected)
    distance = (given - expected).abs()
    return torch.where(
        torch.isfinite(expected) & torch.isfinite(given), distance, torch.where(same, 0.0, math.inf)
    )


def _finite(value: float) -> float:
    return sys.float_info.max if math.isnan(value) else min(value, sys.float_info.max)
