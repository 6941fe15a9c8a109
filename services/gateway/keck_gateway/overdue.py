"""Checks that wait past their deadline: for a kind of executor that nobody has, or for workers that are all gone.

A worker ends what it holds at its deadline. What no worker holds is ended here. Each message that waits in a queue is
read once, a moment after it was stored, by when most have left; its deadline is remembered until its verdict is heard.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Final

import msgspec

from keck import subjects
from keck.bus import Bus
from keck.endings import overdue
from keck.errors import KeckError, NotFound
from keck.logs import logger
from keck.messages import DECODING_ERRORS
from keck.subjects import CheckKey
from keck_gateway.closing import Closing

__all__ = ["Overdue"]

_LOOK_EVERY_S: Final = 1.0
_GRACE_S: Final = 3.0
"""For the worker that holds it, which says more than can be said here."""
_AGAIN_S: Final = 5.0
_BATCH: Final = 500
_WAITED_IN: Final = {subjects.CHECKS: "check.requested.>", subjects.BUILDS: "compile.done.>"}
_SPARE: Final = 1_000


class _Waiting(msgspec.Struct, frozen=True):
    """What has to be known of a message that waits."""

    run: str
    check_id: str
    generation: int = 0
    deadline: float = 0.0


_decode: Final = msgspec.msgpack.Decoder(_Waiting).decode


class Overdue:
    """Ends what waits too long."""

    def __init__(self, bus: Bus, closing: Closing) -> None:
        self._bus = bus
        self._closing = closing
        self._read_to = dict.fromkeys(_WAITED_IN, 0)
        self._stored_to = dict.fromkeys(_WAITED_IN, 0)
        self._waiting: dict[CheckKey, float] = {}
        self._due: list[tuple[float, CheckKey]] = []

    def decided(self, key: CheckKey) -> None:
        """There is a verdict: forget it."""
        self._waiting.pop(key, None)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                for stream in _WAITED_IN:
                    await self._look(stream)
                await self._end_due()
            except KeckError as error:
                logger().warning("overdue_not_looked_for", error=str(error))
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, stream: str) -> None:
        """Read what was stored before the last look and is still there."""
        end = self._stored_to[stream]
        state = (await self._bus.api(f"STREAM.INFO.{stream}", {}))["state"]
        self._stored_to[stream] = int(state["last_seq"])
        if self._stored_to[stream] < end:  # the stream was made anew
            self._read_to[stream] = end = 0
        while self._read_to[stream] < end:
            query = {
                "batch": _BATCH,
                "seq": self._read_to[stream] + 1,
                "next_by_subj": _WAITED_IN[stream],
            }
            last = end
            async for message in self._bus.batch(stream, query):
                last = int((message.headers or {})["Nats-Sequence"])
                if last <= end:
                    self._remember(message.data)
            self._read_to[stream] = min(last, end)

    def _remember(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except DECODING_ERRORS:
            return  # whoever is given it buries it
        key = CheckKey.of(event)
        if key not in self._waiting:
            heapq.heappush(self._due, (event.deadline, key))
        self._waiting[key] = event.deadline

    async def _end_due(self) -> None:
        now = time.time() - _GRACE_S
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            if key in self._waiting:
                await self._end(key)
        if len(self._due) > 2 * len(self._waiting) + _SPARE:
            self._due = [(deadline, key) for key, deadline in self._waiting.items()]
            heapq.heapify(self._due)

    async def _end(self, key: CheckKey) -> None:
        try:
            await self._closing.close(key, lambda event: overdue(event, "it waited for a worker"))
        except NotFound:
            pass  # it was judged, and its verdict has been dropped for space since
        except KeckError:
            heapq.heappush(self._due, (time.time() + _AGAIN_S, key))
            raise
        self._waiting.pop(key, None)
