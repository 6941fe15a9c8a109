"""Slices of an output: the runs of elements over which a scale or a spread means something.

A slice is the smallest block of whole trailing dimensions with at least 256 elements: a row of a softmax, a
channel's image of a convolution, all of a short vector. 256 values give a standard deviation to about 5 %
(1 / sqrt(2 n)); fewer say too little, and larger blocks mix rows whose scales have nothing to do with each other.
What is longer than 1 Mi elements is cut into equal pieces, so that memory stays bounded: everything here works block
by block, whatever the size of the tensor.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Collection, Iterator, Sequence

import torch

__all__ = ["block_count", "block_elements", "blocks", "sample_of_blocks", "slice_length"]

_LEAST = 256
_MOST = 1 << 20
_SAMPLE = 32
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 22}
"""Elements in double precision at once, and a few times that for what is computed from them. On a CPU as many as its
cache holds: a 25 M element output took 4 to 8 times longer in blocks of 16 Mi. On a GPU enough to fill it (32 MiB)."""


def slice_length(shape: Sequence[int]) -> int:
    """Elements of one slice of a tensor of this shape."""
    length = 1
    for size in reversed(shape):
        length *= size
        if length >= _LEAST:
            break
    return length


def block_count(tensor: torch.Tensor) -> int:
    """How many blocks it is cut into."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return sum(1 for _ in _cuts(real.shape, block_elements(tensor.device)))


def sample_of_blocks(tensor: torch.Tensor) -> set[int]:
    """Numbers of blocks, chosen where no candidate can see it: all of them, or 32 of a very large tensor."""
    count = block_count(tensor)
    return set(secrets.SystemRandom().sample(range(count), min(count, _SAMPLE)))


def block_elements(device: torch.device) -> int:
    """How many elements are worked on at once there."""
    return _BLOCK[device.type]


def blocks(tensor: torch.Tensor, only: Collection[int] | None = None) -> Iterator[torch.Tensor]:
    """The tensor in double precision as blocks of shape [slices, elements of a slice], in row-major order.

    Tensors of equal shape on one device are cut in the same places. A complex number counts as two elements.

    Args:
        tensor: of any dtype and memory order.
        only: the numbers of the blocks wanted; None: all.
    """
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = real.reshape(-1)
    for number, (start, stop, width) in enumerate(_cuts(real.shape, block_elements(real.device))):
        if only is None or number in only:
            yield flat[start:stop].view(-1, width).double()


def _cuts(shape: Sequence[int], most: int) -> Iterator[tuple[int, int, int]]:
    """Begin, end and elements of a slice of every block."""
    total, length = math.prod(shape), slice_length(shape)
    if total == 0:
        return
    if length <= _MOST:
        step = max(1, most // length) * length
        yield from ((start, min(start + step, total), length) for start in range(0, total, step))
        return
    pieces = math.ceil(length / _MOST)
    for start in range(0, total, length):
        ends = [start + length * piece // pieces for piece in range(pieces + 1)]
        yield from ((a, b, b - a) for a, b in itertools.pairwise(ends))
