"""How much rounding an answer shows, beyond what the reference's own precision explains.

A candidate that works in TF32 or bfloat16 inside passes a tolerance of 1e-2, and often one of 1e-4. What it gives away
is error far above that of an honest kernel, so the *root mean square* of the error over a slice is held against

    max(16 x the fp32 reference's own, 32 units in the last place of fp32)

in parts of the slice's root mean square (two units of the output's own dtype where that is narrower). The reference's
own error is measured once per reference against a run in double precision. The mean square, not the maximum: it does
not hang on one unlucky element, and tells the precisions apart by factors (see `tests/unit/executor/
test_error_budget.py`). By the triangle inequality the candidate's distance from the fp32 reference exceeds its own error
by no more than the reference's, which the budget holds sixteen times; so the double-precision run need not be repeated for
every check's secret inputs.

A rule of this form, error against a multiple of the fp32 implementation's own error to fp64, is how vendors and
libraries test their own kernels (for one, FlashAttention's tests: at most twice the error of the PyTorch
implementation); the family it answers is C19 of the catalogue of this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from keck.messages import Flag
from keck_executor.judge.compare import bits_equal, is_inexact
from keck_executor.judge.scaled import resolution_of
from keck_executor.judge.slices import blocks

__all__ = ["Errors", "errors_of", "precision_flag"]

_MULTIPLE = 16
_ULPS = 32
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


def errors_of(actual: torch.Tensor, expected: torch.Tensor) -> Errors:
    """The errors of one output, over elements that are finite on both sides; shapes must be equal.

    The two may differ in dtype. A slice's scale counts for at least 2^-10 of the largest slice's.
    """
    if expected.numel() == 0 or (
        actual.dtype == expected.dtype and bits_equal(actual.reshape(-1), expected.reshape(-1))
    ):
        return Errors()
    columns = [_sums(left, right) for left, right in zip(blocks(actual), blocks(expected), strict=True)]
    error_rms, scale_rms, error_max, scale_max = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return Errors(_worst(error_rms, scale_rms), _worst(error_max, scale_max))


def precision_flag(
    outputs: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    own: Sequence[Errors | None],
    oracle: str,
) -> Flag | None:
    """The flag that the outputs of one call earn, or None.

    Args:
        outputs, expected: of one input set, already found equal within the tolerance.
        own: the reference's own errors for every output; None: not known, so nothing is held against anybody.
        oracle: what `own` was measured against.
    """
    for index, (output, wanted, known) in enumerate(zip(outputs, expected, own, strict=True)):
        if known is None or not is_inexact(wanted.dtype):
            continue
        found = errors_of(output, wanted).rms
        budget = max(_MULTIPLE * known.rms, resolution_of(wanted.dtype, ulps=_ULPS))
        if not found <= budget:
            where = f"output {index}: " if len(outputs) > 1 else ""
            return Flag(
                code="precision_lowered",
                severity="warn",
                evidence=f"{where}rms error {found:.2g} of the slice's rms, budget {budget:.2g}; the reference's own "
                f"{known.rms:.2g} (oracle: {oracle})",
            )
    return None


def _sums(actual: torch.Tensor, expected: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Per slice: root mean square of error and of scale, largest error and largest magnitude."""
    both = torch.isfinite(actual) & torch.isfinite(expected)
    error = torch.where(both, actual - expected, 0.0)
    scale = torch.where(both, expected, 0.0)
    return (
        error.square().mean(1).sqrt(),
        scale.square().mean(1).sqrt(),
        error.abs().amax(1),
        scale.abs().amax(1),
    )


def _worst(error: torch.Tensor, scale: torch.Tensor) -> float:
    scale = scale.clamp_min(_FAINT * float(scale.max()))
    return float(torch.where(error == 0, 0.0, error / scale).max().clamp_max(1e30))
