"""How much there is to do and who does it: what `keck top` shows."""

from __future__ import annotations

import msgspec

from keck.messages import Heartbeat

__all__ = ["Load", "Queue"]


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for one kind of worker in one lane."""

    stage: str
    """``compile`` or ``execute``."""
    target: str
    """With ``execute``: the executors that may take it; else empty."""
    lane: str
    waiting: int
    """Given to nobody yet."""
    in_hand: int
    """Given to a worker, and not settled."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a whole system."""

    at: float
    """Unix seconds."""
    workers: list[Heartbeat]
    """All that were heard of lately."""
    queues: list[Queue] | None
    """Those that exist; null where whoever asks may not know."""
    verdicts: int | None
    """Stored since the stream was made: the difference of two looks is a rate."""
