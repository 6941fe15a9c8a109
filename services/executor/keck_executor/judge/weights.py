"""Giving the candidate the reference's weights, where both have the same ones."""

from __future__ import annotations

from typing import Literal

from keck_executor.judge.side import CheckedSide
from keck_executor.runner.wire import TensorRecord

__all__ = ["match_weights"]

_STATE_ARENA = 3


def match_weights(candidate: CheckedSide, reference: CheckedSide) -> Literal["copied", "seeded", "none"]:
    """Copy parameters and buffers over if names, shapes and dtypes agree.

    Returns:
        ``copied``; ``seeded`` where they differ, so that only the common construction seed joins the two;
        ``none`` where the reference has none.
    """
    theirs = reference.link.must("state", copy="no")
    if not theirs.tensors:
        return "none"
    ours = candidate.link.ask("state", copy="no")
    if [_identity(t) for t in ours.tensors] != [_identity(t) for t in theirs.tensors]:
        return "seeded"
    size = int(theirs.numbers[1])
    for side in (reference, candidate):
        side.ensure(_STATE_ARENA, size)
    reference.link.must("state", copy="out", arena=_STATE_ARENA)
    # Through two arenas: reference and candidate never map the same memory.
    candidate.memory(_STATE_ARENA)[:size].copy_(reference.memory(_STATE_ARENA)[:size])
    candidate.device.synchronize()
    candidate.link.must("state", copy="in", arena=_STATE_ARENA)
    return "copied"


def _identity(record: TensorRecord) -> tuple[bytes, str, tuple[int, ...]]:
    return record.name, record.dtype, record.shape
