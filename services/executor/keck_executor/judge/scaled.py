"""The scale-aware comparison: errors against the spread of what is compared, not against an absolute number.

It takes over where an answer that computes nothing passes the tolerance (:mod:`keck_executor.judge.lint`). The
tolerance's numbers are made for outputs of the order of one. A softmax over 393216 columns is 4e-6 at most, so that
zeros are within 1e-4 of it; a loss that is 2.0 give or take 0.01 is within 1e-2 of the constant 2. What an honest
answer and an empty one differ by is neither the size of the output nor its mean but how much of it depends on the
inputs: its *spread*. So the same numbers are applied to the output in units of its own spread, as if each slice had
been standardised first::

    |actual - expected| <= atol * spread + rtol * |expected - center| + floor

* **center and spread** of a slice (:mod:`keck_executor.judge.slices`) are its mean and standard deviation, or, where
  that is less, nothing and the standard deviation *between input sets* of the slice's elements: an output that is
  mostly a bias varies within a slice for reasons that have nothing to do with the inputs, and a scalar has nothing to
  vary within.
* **floor** is what no honest kernel can be asked to resolve (:meth:`keck_executor.judge.rounding.Rounding.largest_budget`).
* It is never looser than the tolerance itself.

Relative error against a slice's own magnitude rather than an absolute threshold is how backward-stable algorithms are
judged (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., sections 1.2 and 3.1); the family of cheats
that it answers is C10, C11 and C20 of the catalogue of this project.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from keck.messages import Tolerance
from keck_executor.judge.compare import Difference, bits_equal, difference_of
from keck_executor.judge.slices import blocks

__all__ = ["Allowance", "allowance_of", "compare_scaled", "spread_between"]

_FAINT = 2.0**-10
"""A slice's scale and spread count for at least this part of the whole output's: next to rows of the order of one, a
row of zeros may come out as 1e-12."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the elements of one output of one input set may be off by; a column of numbers for every block."""

    tolerance: Tolerance
    center: tuple[torch.Tensor, ...]
    """NaN where the spread is that between sets."""
    spread: tuple[torch.Tensor, ...]
    floor: tuple[torch.Tensor, ...]

    @property
    def resolved(self) -> bool:
        """Whether any slice varies by more than its floor: else there is nothing that an answer could get wrong."""
        return any(
            bool(((spread > floor) & torch.isfinite(spread)).any())
            for spread, floor in zip(self.spread, self.floor, strict=True)
        )

    def of(self, index: int, expected: torch.Tensor) -> torch.Tensor:
        """For every element of block `index` of the expected values, in double precision."""
        center, spread = self.center[index], self.spread[index]
        away = torch.where(torch.isnan(center), spread, (expected - center).abs())
        scaled = self.tolerance.atol * spread + self.tolerance.rtol * away + self.floor[index]
        # NaN (nothing finite in the slice, or no spread known) leaves the tolerance as it is.
        plain = self.tolerance.atol + self.tolerance.rtol * expected.abs()
        return torch.where(scaled < plain, scaled, plain)


def spread_between(sets: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...] | None:
    """The standard deviation of a slice's elements from set to set, root mean square over the slice.

    Args:
        sets: the expected values of one output for several input sets.

    Returns:
        a column for every block; None where there is one set, shapes differ, or nothing differs between them.
    """
    if len(sets) < 2 or any(tensor.shape != sets[0].shape for tensor in sets):
        return None
    found: list[torch.Tensor] = []
    for parts in zip(*(blocks(tensor) for tensor in sets), strict=True):
        total = torch.zeros_like(parts[0][:, :1])
        for one, other in itertools.pairwise(parts):
            total += _mean((one - other) ** 2 / 2)
        found.append((total / (len(parts) - 1)).sqrt())
    # `get_inputs` without randomness: what varies is known from within the slices alone.
    return tuple(found) if any(bool((column > 0).any()) for column in found) else None


def allowance_of(
    expected: torch.Tensor,
    tolerance: Tolerance,
    *,
    floor: float,
    between: Sequence[torch.Tensor] | None = None,
) -> Allowance:
    """What an output may be off by under the scale-aware comparison.

    Args:
        expected: one output of the reference, of a floating-point or complex dtype.
        tolerance: whose numbers count in units of the spread.
        floor: the largest honest error, in parts of a slice's largest magnitude.
        between: of :func:`spread_between`, where it is known.
    """
    centers, spreads, scales = [], [], []
    for index, block in enumerate(blocks(expected)):
        center = _mean(block)
        own = _mean((block - center) ** 2).sqrt() if block.shape[1] > 1 else torch.full_like(center, math.inf)
        other = between[index] if between is not None else torch.full_like(own, math.inf)
        lesser = other < own
        centers.append(torch.where(lesser, math.nan, center))
        spreads.append(torch.where(lesser, other, own))
        scales.append(torch.where(torch.isfinite(block), block, 0.0).abs().amax(1, keepdim=True))
    # Without asking the device for a number: this is done for every set that is timed.
    least, faint = _FAINT * _largest(scales), _FAINT * _largest(spreads)
    return Allowance(
        tolerance=tolerance,
        center=tuple(centers),
        spread=tuple(torch.maximum(spread, faint) for spread in spreads),
        floor=tuple(floor * torch.maximum(scale, least) for scale in scales),
    )


def compare_scaled(actual: torch.Tensor, expected: torch.Tensor, allowance: Allowance) -> Difference:
    """Element by element, within what the allowance for `expected` says; shapes must be equal already.

    Non-finite values must be the same ones in the same places.
    """
    if bits_equal(actual, expected):
        return Difference(total=actual.numel())
    difference, tiny = Difference(), float(torch.finfo(expected.dtype).tiny)
    for index, (left, right) in enumerate(zip(blocks(actual), blocks(expected), strict=True)):
        allowed = allowance.of(index, right)
        difference += difference_of(left, right, allowed, least=max(allowance.tolerance.atol, tiny))
    return difference


def _mean(block: torch.Tensor) -> torch.Tensor:
    """Of the finite elements of each slice; NaN where there are none."""
    finite = torch.isfinite(block)
    return torch.where(finite, block, 0.0).sum(1, keepdim=True) / finite.sum(1, keepdim=True)


def _largest(columns: Sequence[torch.Tensor]) -> torch.Tensor:
    """The largest finite number, as a tensor on its device; 0 where there is none."""
    if not columns:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack([torch.where(torch.isfinite(c), c, 0.0).amax() for c in columns]).amax()
