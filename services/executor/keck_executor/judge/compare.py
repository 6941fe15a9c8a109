"""Whether one output equals another within a tolerance. Runs on whatever device the tensors are on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from keck.messages import Options, Tolerance

__all__ = ["Difference", "compare", "tolerance_for"]

_CHUNK = 1 << 26
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


def tolerance_for(dtype: torch.dtype, options: Options) -> Tolerance:
    """The tolerance that the options ask for: explicit numbers first, else the preset's for this dtype.

    Integers and booleans must be equal.
    """
    if not (dtype.is_floating_point or dtype.is_complex):
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
    for start in range(0, left.numel(), _CHUNK):
        difference += _compare_flat(left[start : start + _CHUNK], right[start : start + _CHUNK], tolerance)
    return difference


def _compare_flat(actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> Difference:
    # Most right answers are right to the last bit, and a dozen passes in double precision cost more than the call.
    if torch.equal(actual.view(torch.uint8), expected.view(torch.uint8)):
        return Difference(total=actual.numel())
    if not (expected.dtype.is_floating_point or expected.dtype.is_complex):
        wrong = actual != expected
        distance = (actual.double() - expected.double()).abs().max()
        return Difference(float(distance), 0.0, int(wrong.sum()), actual.numel())
    wide = torch.complex128 if expected.dtype.is_complex else torch.float64
    left, right = actual.to(wide), expected.to(wide)
    finite = torch.isfinite(right)
    same_specials = torch.where(torch.isnan(right), torch.isnan(left), left == right)
    error, size = (left - right).abs(), right.abs()
    # Written as "not within": a NaN in the candidate's output is never within anything.
    right_enough = torch.where(finite, error <= tolerance.atol + tolerance.rtol * size, same_specials)
    shown = torch.where(finite & torch.isfinite(error), error, 0.0)
    # Against a reference near zero a relative error says nothing: not below the absolute tolerance.
    relative = shown / size.clamp_min(max(tolerance.atol, torch.finfo(expected.dtype).tiny))
    # A double's error over a double's smallest number overflows, and JSON has no infinity.
    relative = relative.clamp_max(torch.finfo(torch.float64).max)
    facts = torch.stack([shown.max(), relative.max(), (~right_enough).sum().double()]).tolist()
    return Difference(facts[0], facts[1], int(facts[2]), actual.numel())
