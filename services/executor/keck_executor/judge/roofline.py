"""Faster than the device's memory: a time that no computation can have had.

Every output must be written and every input that matters must be read. What of the inputs matters is found out by
changing single places of them and looking whether the reference's answer changes (design paper on the judge). A time
below what that takes at the bandwidth of the device is no clever kernel; the judge was deceived, or its clock was.
Operation counts would say nothing of the kind: there may always be a way with fewer.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from keck_executor.judge.input_changes import input_tensors
from keck_executor.judge.inputs import InputSet
from keck_executor.judge.outputs import Expected

__all__ = ["Floor", "bytes_that_matter", "floor_of", "needed_share"]

_MARGIN = 1.1
"""Above the highest bandwidth that the judge reached itself."""
_PROBES = 48
_SECTOR = 32
"""Bytes: what a GPU's memory gives at least; a place stands for all of its sector."""
_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Floor:
    """The least time of one call."""

    seconds: float
    bytes: float
    """That must move in one call."""
    bandwidth: float
    """Bytes a second, margin included."""

    def evidence(self, seconds: float) -> str:
        """For people: what was measured, against what."""
        return (
            f"{1e6 * seconds:.2f} us a call; the {self.bytes / 1e6:.1f} MB that a call must at least move take "
            f"{1e6 * self.seconds:.2f} us at {self.bandwidth / 1e9:.0f} GB/s, 10 % more than this device was seen to reach"
        )


def floor_of(moved: float, *, calls: int, cache_bytes: int, bandwidth: float) -> Floor:
    """The least time of each of several calls in a row.

    What a cache can hold of the inputs when they begin, and of the outputs when they end, is taken off once for both.

    Args:
        moved: bytes that one call must read and write.
        calls: how many are timed in one stretch.
        cache_bytes: size of the last-level cache.
        bandwidth: bytes a second that the device was seen to reach.
    """
    must = max(0.0, calls * moved - 2 * cache_bytes) / calls
    return Floor(seconds=must / (_MARGIN * bandwidth), bytes=must, bandwidth=_MARGIN * bandwidth)


def needed_share(hits: int, tried: int) -> float:
    """The least share of an input that matters, if `hits` of `tried` random places of it did.

    The lower end of Clopper and Pearson's interval, at 99 % (Biometrika 26, 1934); 0 for no hits.
    """
    if hits == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        # The chance of as many hits or more, if `middle` were the share.
        chance = sum(
            math.comb(tried, k) * middle**k * (1 - middle) ** (tried - k) for k in range(hits, tried + 1)
        )
        low, high = (middle, high) if chance < 1 - _CONFIDENCE else (low, middle)
    return low


def bytes_that_matter(
    call: Callable[[InputSet], Sequence[torch.Tensor]], inputs: InputSet, other: InputSet, expected: Expected
) -> float:
    """Bytes that a call must move: its outputs, and of each input the share that the answer depends on.

    Args:
        call: the reference, with its outputs as they are until the next call.
        inputs: a set.
        other: another of the same form, for other values in the same places.
        expected: the reference's answer to `inputs`.
    """
    written = sum(tensor.numel() * tensor.element_size() for tensor in expected.tensors)
    if not _same(call(inputs), expected):
        return written  # an answer that changes by itself does not show what changes it
    read = 0.0
    for index, tensor in enumerate(input_tensors(inputs)):
        if tensor.numel():
            hits = sum(_matters(call, inputs, other, index, expected) for _ in range(_PROBES))
            read += needed_share(hits, _PROBES) * tensor.numel() * tensor.element_size()
    return written + read


def _matters(
    call: Callable[[InputSet], Sequence[torch.Tensor]],
    inputs: InputSet,
    other: InputSet,
    index: int,
    expected: Expected,
) -> bool:
    """Whether the answer changes with one sector of one input."""
    changed = InputSet(inputs.form_id, inputs.form, inputs.master.clone())
    ours, theirs = (_flat(input_tensors(each)[index]) for each in (changed, other))
    width = max(1, _SECTOR // ours.element_size())
    start = secrets.randbelow(-(-ours.numel() // width)) * width
    ours[start : start + width].copy_(theirs[start : start + width])
    return not _same(call(changed), expected)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _same(outputs: Sequence[torch.Tensor], expected: Expected) -> bool:
    return len(outputs) == len(expected.tensors) and all(
        torch.equal(_flat(a).view(torch.uint8), _flat(b).view(torch.uint8))
        for a, b in zip(outputs, expected.tensors, strict=True)
    )
