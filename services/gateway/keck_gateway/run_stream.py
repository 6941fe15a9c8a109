"""Everything that happens in one run as server-sent events: for people who watch, so what is missed is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from keck.bus import Bus
from keck.errors import QueueFull
from keck.messages import EvalDone, to_json
from keck.run_feed import RunFeed

__all__ = ["RunStreams"]

_MOST: Final = 64
"""Watchers of one gateway at once: each has subscriptions of its own."""
_KEEP_ALIVE_S: Final = 15.0


class RunStreams:
    """The watchers of one gateway."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._count = 0

    def require_room(self) -> None:
        """Raise QueueFull if one more may not watch."""
        if self._count >= _MOST:
            raise QueueFull(f"{_MOST} runs are watched on this gateway already")

    async def follow(self, run: str) -> AsyncIterator[bytes]:
        """What happens in a run from now on, as the bytes of server-sent events."""
        self._count += 1
        try:
            async with RunFeed(self._bus, run) as feed:
                yield b": watching\n\n"
                while True:
                    event = await feed.next(_KEEP_ALIVE_S)
                    if event is None:
                        yield b": keep-alive\n\n"
                        continue
                    name = b"verdict" if isinstance(event, EvalDone) else b"progress"
                    yield b"event: " + name + b"\ndata: " + to_json(event) + b"\n\n"
        finally:
            self._count -= 1
