"""Errors of rounding: how large one output's are, and how large an honest kernel's may be.

All errors are in parts of the scale of the slice they are in (:mod:`keck_executor.judge.slices`), by two measures: the
root mean square over the slice's root mean square, which tells precisions apart by factors and does not hang on one
unlucky element, and the largest over the slice's largest magnitude, which bounds every element.

What an honest kernel may show is the largest of three:

* a multiple (16) of the **reference's own error**, measured once per reference against a run in double precision, or by
  moving its inputs by their last bit. By the triangle inequality a candidate's distance from the fp32 reference exceeds
  its own error by no more than the reference's, which is held sixteen times here: the run in double precision need not
  be repeated for every check's secret inputs;
* a floor in **units in the last place** of fp32 that grows with the root of the number of terms in a sum, as the error of
  adding them in plain order does with high probability (Higham and Mary, *A new approach to probabilistic rounding
  error analysis*, SIAM J. Sci. Comput. 41, 2019). How many terms is not known; there are at least as many as there are
  inputs for every output. Measured on sums of 1e5 positive numbers in plain order: 0.12 sqrt(n) units by the first
  measure, 0.4 sqrt(n) by the second; allowed are 0.5 and 1. Beyond 2^20 terms the floor grows no more: a sum of 1e6
  positive numbers in plain order is off by 4e-4, for the total's last place is larger than the terms' by then;
* where the output's own dtype is narrower than fp32, one unit in its last place by the first measure and two by the
  second, and 4 times the reference's own error: arithmetic is done in fp32, and what shows is the rounding of the result,
  0.3 units by the first measure, on both sides alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from keck_executor.judge.compare import bits_equal
from keck_executor.judge.slices import blocks, sample_of_blocks

__all__ = ["Errors", "Rounding", "errors_of"]

_MULTIPLE = 16
_NARROW_MULTIPLE = 4
_RMS_ULPS = 32
_LARGEST_ULPS = 256
_MOST_TERMS = 2.0**20
_FAINT = 2.0**-10


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of the worst slice of one output, in parts of that slice's own scale."""

    rms: float = 0.0
    """Root mean square over root mean square."""
    largest: float = 0.0
    """Largest over largest magnitude."""

    def __or__(self, other: Errors) -> Errors:
        return Errors(max(self.rms, other.rms), max(self.largest, other.largest))


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is known of how one output of a reference is rounded."""

    own: Errors
    """The reference's own."""
    terms: float = 1.0
    """Inputs for every output: how long its sums are at least."""

    def rms_budget(self, dtype: torch.dtype) -> float:
        """The largest honest error by root mean square, in parts of the slice's."""
        ulps = max(_RMS_ULPS, 0.5 * math.sqrt(min(self.terms, _MOST_TERMS)))
        return _budget(dtype, self.own.rms, ulps=ulps, narrow_ulps=1)

    def largest_budget(self, dtype: torch.dtype) -> float:
        """The largest honest error of an element, in parts of the slice's largest magnitude."""
        ulps = max(_LARGEST_ULPS, math.sqrt(min(self.terms, _MOST_TERMS)))
        return _budget(dtype, self.own.largest, ulps=ulps, narrow_ulps=2)


def errors_of(actual: torch.Tensor, expected: torch.Tensor) -> Errors:
    """The errors of one output, over elements that are finite on both sides; shapes must be equal.

    The two may differ in dtype. A slice's scale counts for at least 2^-10 of the largest slice's: next to rows of the
    order of one, a row of zeros may come out as 1e-12. Of a very large output a secret sample of blocks is looked at.
    """
    if expected.numel() == 0 or (actual.dtype == expected.dtype and bits_equal(actual, expected)):
        return Errors()
    only = sample_of_blocks(expected)
    columns = [
        _sums(left, right) for left, right in zip(blocks(actual, only), blocks(expected, only), strict=True)
    ]
    error_rms, scale_rms, error_max, scale_max = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return Errors(_worst(error_rms, scale_rms), _worst(error_max, scale_max))


def _budget(dtype: torch.dtype, own: float, *, ulps: float, narrow_ulps: float) -> float:
    eps, single = float(torch.finfo(dtype).eps), float(torch.finfo(torch.float32).eps)
    if eps > single:
        return max(_NARROW_MULTIPLE * own, narrow_ulps * eps, ulps * single)
    return max(_MULTIPLE * own, ulps * eps)


def _sums(actual: torch.Tensor, expected: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Per slice: root mean square of error and of scale, largest error and largest magnitude."""
    error = torch.nan_to_num(actual - expected, nan=0.0, posinf=0.0, neginf=0.0)
    scale = torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0)
    root = math.sqrt(expected.shape[1])
    return (
        torch.linalg.vector_norm(error, dim=1) / root,
        torch.linalg.vector_norm(scale, dim=1) / root,
        torch.linalg.vector_norm(error, ord=math.inf, dim=1),
        torch.linalg.vector_norm(scale, ord=math.inf, dim=1),
    )


def _worst(error: torch.Tensor, scale: torch.Tensor) -> float:
    scale = scale.clamp_min(_FAINT * float(scale.max()))
    return float(torch.where(error == 0, 0.0, error / scale).max().clamp_max(1e30))
