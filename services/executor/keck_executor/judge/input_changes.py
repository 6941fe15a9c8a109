"""Input sets of the judge's own making: a drawn one with its numbers rounded, or moved by their last bit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from keck_executor.judge.inputs import Form, InputSet, checked_view
from keck_executor.judge.slices import block_elements

__all__ = ["input_tensors", "moved", "rounded"]


def input_tensors(inputs: InputSet) -> tuple[torch.Tensor, ...]:
    """The set's tensors, as views of the judge's own copy."""
    return _tensors(inputs.form, inputs.master)


def rounded(inputs: InputSet) -> InputSet | None:
    """The set with fp32 and fp64 numbers rounded to bfloat16; None where it has none."""
    wide = (torch.float32, torch.float64)
    if not any(tensor.dtype in wide for tensor in input_tensors(inputs)):
        return None
    return _changed(inputs, lambda part: part.bfloat16() if part.dtype in wide else part)


def moved(inputs: InputSet) -> InputSet:
    """The set with every floating-point number one unit in the last place up or down, at random.

    What a function makes of that is the error that it would show had its inputs been computed one operation earlier:
    a measure of its conditioning that needs no second precision.
    """
    return _changed(inputs, _to_a_neighbour)


def _to_a_neighbour(part: torch.Tensor) -> torch.Tensor:
    if not part.is_floating_point():
        return part
    eps = torch.finfo(part.dtype).eps
    away = torch.randint(0, 2, part.shape, device=part.device).double() * (2 * eps) - eps
    return (part.double() * (1 + away)).to(part.dtype)


def _changed(inputs: InputSet, change: Callable[[torch.Tensor], torch.Tensor]) -> InputSet:
    master = inputs.master.clone()
    for tensor in _tensors(inputs.form, master):
        flat = tensor.as_strided((tensor.numel(),), (1,))
        step = block_elements(flat.device)
        for start in range(0, flat.numel(), step):
            part = flat[start : start + step]
            part.copy_(change(part))
    return InputSet(inputs.form_id, inputs.form, master)


def _tensors(form: Form, master: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(checked_view(master, record) for record in form.tensors)
