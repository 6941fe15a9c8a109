"""Whether one output equals another within a tolerance. Runs on whatever device the tensors are on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from keck.messages import Options, Tolerance

__all__ = [
    "CHUNK",
    "Difference",
    "bits_equal",
    "compare",
    "difference_of",
    "is_inexact",
    "rows_equal",
    "tolerance_for",
]

CHUNK = 1 << 26
"""Elements compared at once: bounds the temporary memory at a few times 512 MiB in double precision."""

_KERNELBENCH = {torch.float16: 1e-2, torch.bfloat16: 1e-2, torch.float8_e4m3fn: 1e-1, torch.float8_e5m2: 1e-1}


@dataclass(frozen=True, slots=True)
class Difference:
    """What a comparison found; sums up with ``+``."""

    max_abs: float = 0.0
    max_rel: float = 0.0
    mismatched: int = 0
    total: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            self.mismatched + other.mismatched,
            self.total + other.total,
        )


def is_inexact(dtype: torch.dtype) -> bool:
    """Whether values of this dtype are rounded: not integers, not booleans."""
    return dtype.is_floating_point or dtype.is_complex


def tolerance_for(dtype: torch.dtype, options: Options) -> Tolerance:
    """The tolerance that the options ask for: explicit numbers first, else the preset's for this dtype.

    Integers and booleans must be equal.
    """
    if not is_inexact(dtype):
        return Tolerance(atol=0.0, rtol=0.0)
    preset = 1e-2 if options.tolerance == "keck" else _KERNELBENCH.get(dtype, 1e-4)
    return Tolerance(
        atol=preset if options.atol is None else options.atol,
        rtol=preset if options.rtol is None else options.rtol,
    )


def compare(actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> Difference:
    """Element by element, ``|actual - expected| <= atol + rtol * |expected|``; shapes must be equal already.

    Non-finite values must be the same ones in the same places.
    """
    difference = Difference()
    left, right = actual.reshape(-1), expected.reshape(-1)
    for start in range(0, left.numel(), CHUNK):
        difference += _compare_flat(left[start : start + CHUNK], right[start : start + CHUNK], tolerance)
    return difference


def bits_equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors of one shape and dtype hold the same bytes in the same places."""
    one, other = left.reshape(-1), right.reshape(-1)
    return all(
        torch.equal(one[i : i + CHUNK].view(torch.uint8), other[i : i + CHUNK].view(torch.uint8))
        for i in range(0, one.numel(), CHUNK)
    )


def rows_equal(left: torch.Tensor, right: torch.Tensor) -> list[bool]:
    """For each row of two tensors of one shape and dtype, whether it holds the same bytes; several rows: contiguous."""
    if len(left) == 1:
        return [bits_equal(left, right)]
    one, other = (tensor.reshape(tensor.shape[0], -1).view(torch.uint8) for tensor in (left, right))
    return [not different for different in (one != other).any(1).tolist()]


def _compare_flat(actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> Difference:
    # Most right answers are right to the last bit, and a dozen passes in double precision cost more than the call.
    if bits_equal(actual, expected):
        return Difference(total=actual.numel())
    if not is_inexact(expected.dtype):
        wrong = actual != expected
        distance = (actual.double() - expected.double()).abs().max()
        return Difference(float(distance), 0.0, int(wrong.sum()), actual.numel())
    wide = torch.complex128 if expected.dtype.is_complex else torch.float64
    left, right = actual.to(wide), expected.to(wide)
    allowed = tolerance.atol + tolerance.rtol * right.abs()
    # Against a reference near zero a relative error says nothing: not below the absolute tolerance.
    return difference_of(left, right, allowed, least=max(tolerance.atol, torch.finfo(expected.dtype).tiny))


def difference_of(
    actual: torch.Tensor, expected: torch.Tensor, allowed: torch.Tensor, *, least: float
) -> Difference:
    """Compare in double precision, with what each element may be off by.

    Args:
        actual, expected, allowed: of one shape; not empty.
        least: what a relative error is counted from at least.
    """
    finite = torch.isfinite(expected)
    same_specials = torch.where(torch.isnan(expected), torch.isnan(actual), actual == expected)
    error, size = (actual - expected).abs(), expected.abs()
    # Written as "not within": a NaN in the candidate's output is never within anything.
    right_enough = torch.where(finite, error <= allowed, same_specials)
    shown = torch.where(finite & torch.isfinite(error), error, 0.0)
    relative = shown / size.clamp_min(least)
    # A double's error over a double's smallest number overflows, and JSON has no infinity.
    relative = relative.clamp_max(torch.finfo(torch.float64).max)
    facts = torch.stack([shown.max(), relative.max(), (~right_enough).sum().double()]).tolist()
    return Difference(facts[0], facts[1], int(facts[2]), actual.numel())
