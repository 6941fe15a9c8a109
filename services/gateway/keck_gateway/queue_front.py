"""How far from the front of its queue a message is."""

from __future__ import annotations

import time
from typing import NamedTuple

from keck.bus import Bus

__all__ = ["QueueFront"]

_FRESH_FOR_S = 0.5
"""Many may ask at once; the server is asked about one consumer this often at most."""


class _Front(NamedTuple):
    delivered: int
    """Stream sequence of the newest message any worker was given."""
    pending: int
    """Messages not given to anybody yet."""
    at: float


class QueueFront:
    """Positions in the queues, from what the server knows of their consumers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._fronts: dict[tuple[str, str], _Front] = {}

    async def position(self, stream: str, consumer: str, sequence: int) -> int | None:
        """How many messages may be served before this one (at most); None if a worker was given it."""
        front = await self._front(stream, consumer)
        ahead = sequence - front.delivered - 1
        # The stream's sequence runs through both lanes and all targets, hence an upper bound.
        return None if ahead < 0 else max(0, min(ahead, front.pending - 1))

    async def _front(self, stream: str, consumer: str) -> _Front:
        known = self._fronts.get((stream, consumer))
        if known and time.monotonic() - known.at < _FRESH_FOR_S:
            return known
        info = await self._bus.api(f"CONSUMER.INFO.{stream}.{consumer}", {})
        if "error" in info:
            # No executor of this kind ever was: nothing has been delivered, and all that lies there waits.
            state = (await self._bus.api(f"STREAM.INFO.{stream}", {}))["state"]
            front = _Front(state["first_seq"] - 1, state["messages"], time.monotonic())
        else:
            front = _Front(info["delivered"]["stream_seq"], info["num_pending"], time.monotonic())
        self._fronts[stream, consumer] = front
        return front
