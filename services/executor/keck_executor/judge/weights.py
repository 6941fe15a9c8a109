"""Giving the candidate the reference's weights, where both have the same ones."""

from __future__ import annotations

from typing import Literal

from keck_executor.judge.side import STATE_ARENA, CheckedSide

__all__ = ["match_weights"]


def match_weights(candidate: CheckedSide, reference: CheckedSide) -> Literal["copied", "seeded", "none"]:
    """Copy parameters and buffers over if names, shapes and dtypes agree.

    Returns:
        ``copied``; ``seeded`` where they differ, so that only the common construction seed joins the two;
        ``none`` where the reference has none.
    """
    theirs = reference.link.must("state", copy="no")
    if not theirs.numbers[0]:
        return "none"
    ours = candidate.link.ask("state", copy="no")
    if (ours.status, ours.text, ours.numbers) != (theirs.status, theirs.text, theirs.numbers):
        return "seeded"
    size = int(theirs.numbers[1])
    for side in (reference, candidate):
        side.ensure(STATE_ARENA, size)
    reference.link.must("state", copy="out", arena=STATE_ARENA)
    # Through two arenas: reference and candidate never map the same memory.
    candidate.memory(STATE_ARENA)[:size].copy_(reference.memory(STATE_ARENA)[:size])
    candidate.device.synchronize()
    candidate.link.must("state", copy="in", arena=STATE_ARENA)
    return "copied"
