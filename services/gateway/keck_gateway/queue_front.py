"""How far from the front of its queue a message is, and how fast the queue moves."""

from __future__ import annotations

import time
from collections import deque
from typing import Final, NamedTuple

from keck.bus import Bus

__all__ = ["Place", "QueueFront"]

_FRESH_FOR_S: Final = 0.5
"""Many may ask at once; the server is asked about one consumer this often at most."""
_LOOK_BACK_S: Final = 60.0
_LEAST_SPAN_S: Final = 1.0
"""Two looks closer together than this say nothing of speed."""


class Place(NamedTuple):
    """Where a message waits."""

    before: int
    """Messages that may be served before it, at most."""
    estimate_s: float | None
    """Seconds until it is served if the queue goes on as in the last minute; None where it has not moved."""


class _Front(NamedTuple):
    delivered: int
    """Stream sequence of the newest message any worker was given."""
    pending: int
    """Messages not given to anybody yet."""
    served: int
    """Deliveries so far."""
    at: float


class QueueFront:
    """Places in the queues, from what the server knows of their consumers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._fronts: dict[tuple[str, str], deque[_Front]] = {}

    async def place(self, stream: str, consumer: str, sequence: int) -> Place | None:
        """The place of a message of a consumer's; None if a worker was given it."""
        front = await self._front(stream, consumer)
        ahead = sequence - front.delivered - 1
        if ahead < 0:
            return None
        # The stream's sequence runs through both lanes and all targets, hence an upper bound.
        before = max(0, min(ahead, front.pending - 1))
        speed = self._speed(stream, consumer)
        return Place(before, (before + 1) / speed if speed else None)

    async def seconds_for(self, stream: str, consumer: str, messages: int) -> float | None:
        """How long so many messages take to be served, as things go; None where nothing moves."""
        await self._front(stream, consumer)
        speed = self._speed(stream, consumer)
        return messages / speed if speed else None

    def _speed(self, stream: str, consumer: str) -> float:
        """Messages a second over the last minute."""
        fronts = self._fronts[stream, consumer]
        first, last = fronts[0], fronts[-1]
        span_s = last.at - first.at
        served = last.served - first.served
        return served / span_s if span_s >= _LEAST_SPAN_S and served > 0 else 0.0

    async def _front(self, stream: str, consumer: str) -> _Front:
        fronts = self._fronts.setdefault((stream, consumer), deque())
        now = time.monotonic()
        if not fronts or now - fronts[-1].at >= _FRESH_FOR_S:
            fronts.append(await self._look(stream, consumer))
        while now - fronts[0].at > _LOOK_BACK_S:
            fronts.popleft()
        return fronts[-1]

    async def _look(self, stream: str, consumer: str) -> _Front:
        info = await self._bus.api(f"CONSUMER.INFO.{stream}.{consumer}", {})
        if "error" in info:
            # No executor of this kind ever was: nothing has been delivered, and all that lies there waits.
            state = (await self._bus.api(f"STREAM.INFO.{stream}", {}))["state"]
            return _Front(state["first_seq"] - 1, state["messages"], 0, time.monotonic())
        delivered = info["delivered"]
        return _Front(
            delivered["stream_seq"], info["num_pending"], delivered["consumer_seq"], time.monotonic()
        )
