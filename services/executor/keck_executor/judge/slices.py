"""Slices of an output: the runs of elements over which a scale or a spread means something.

A slice is the smallest block of whole trailing dimensions with at least 256 elements: a row of a softmax, a
channel's image of a convolution, all of a short vector. 256 values give a standard deviation to about 5 %
(1 / sqrt(2 n)); fewer say too little, and larger blocks mix rows whose scales have nothing to do with each other.
What is longer than 4 Mi elements is cut into equal pieces, so that memory stays bounded: everything here works block
by block, whatever the size of the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

__all__ = ["blocks", "slice_length"]

_LEAST = 256
_MOST = 1 << 22
_BLOCK = 1 << 24
"""Elements in double precision at once: 128 MiB, and a few times that for what is computed from them."""


def slice_length(shape: Sequence[int]) -> int:
    """Elements of one slice of a tensor of this shape."""
    length = 1
    for size in reversed(shape):
        length *= size
        if length >= _LEAST:
            break
    return length


def blocks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensor in double precision as blocks of shape [slices, elements of a slice], in row-major order.

    Tensors of equal shape are cut in the same places. A complex number counts as two elements.
    """
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if real.numel() == 0:
        return
    length = slice_length(real.shape)
    flat = real.reshape(-1)
    if length > _MOST:
        pieces = math.ceil(length / _MOST)
        for start in range(0, flat.numel(), length):
            yield from (
                piece.double()[None] for piece in torch.tensor_split(flat[start : start + length], pieces)
            )
        return
    rows = flat.view(-1, length)
    step = max(1, _BLOCK // length)
    for start in range(0, rows.shape[0], step):
        yield rows[start : start + step].double()
