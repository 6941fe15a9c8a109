"""The error budget: a flag for answers that are right, and less precise than honest fp32 arithmetic makes them.

A candidate that works in TF32 or bfloat16 inside passes a tolerance of 1e-2, and often one of 1e-4. What it gives away
is error far above that of an honest kernel of any order of summation (:mod:`keck_executor.judge.rounding` says what that
may be; `tests/unit/executor/test_error_budget.py` has both sides of the line). To hold the error to a multiple of the
fp32 implementation's own error is how libraries test their kernels (FlashAttention's tests: at most twice that of the
PyTorch implementation). The family it answers is C19 of this project's catalogue. It is a finding and decides nothing
by itself: whether TF32 is wanted is the caller's policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from keck.messages import Flag
from keck_executor.judge.compare import is_inexact
from keck_executor.judge.rounding import Rounding, errors_of

__all__ = ["precision_flag"]


def precision_flag(
    outputs: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    known: Sequence[Rounding | None],
    oracle: str,
) -> Flag | None:
    """The flag that the outputs of one call earn, or None.

    Args:
        outputs, expected: of one input set, already found equal within the tolerance.
        known: of the reference's rounding, for every output; None: nothing, so nothing is held against anybody.
        oracle: what it was measured against.
    """
    for index, (output, wanted, rounding) in enumerate(zip(outputs, expected, known, strict=True)):
        if rounding is None or not is_inexact(wanted.dtype):
            continue
        found, budget = errors_of(output, wanted).rms, rounding.rms_budget(wanted.dtype)
        if not found <= budget:
            where = f"output {index}: " if len(outputs) > 1 else ""
            return Flag(
                code="precision_lowered",
                severity="warn",
                evidence=f"{where}rms error {found:.2g} of the slice's rms, budget {budget:.2g}; the reference's own "
                f"{rounding.own.rms:.2g} (oracle: {oracle})",
            )
    return None
