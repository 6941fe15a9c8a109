"""What workers say of checks on the way: the last of each, and all of it for those who listen."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest
from keck.logs import logger
from keck.messages import CheckProgress, decode
from keck.subjects import CheckKey

__all__ = ["ProgressFeed"]

_REMEMBERED = 20_000
"""Checks whose last progress is kept: a courtesy, never needed to answer."""
_BACKLOG = 256
"""Messages one listener may lag behind; more are dropped, as progress may be."""


class ProgressFeed:
    """One subscription to the progress of all checks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._last: OrderedDict[CheckKey, CheckProgress] = OrderedDict()
        self._listeners: dict[CheckKey, set[asyncio.Queue[CheckProgress | None]]] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear progress while this lasts."""
        subscription = await self._bus.subscribe(subjects.PROGRESS, self._heard)
        try:
            yield
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    def last(self, key: CheckKey) -> CheckProgress | None:
        """What was last heard of a check."""
        return self._last.get(key)

    @contextmanager
    def listen(self, key: CheckKey) -> Iterator[asyncio.Queue[CheckProgress | None]]:
        """A queue of what is said of one check while the block lasts; None is the listener's own to put in."""
        queue: asyncio.Queue[CheckProgress | None] = asyncio.Queue()
        self._listeners.setdefault(key, set()).add(queue)
        try:
            yield queue
        finally:
            queues = self._listeners[key]
            queues.discard(queue)
            if not queues:
                del self._listeners[key]

    async def _heard(self, message: Msg) -> None:
        try:
            progress = decode(message.data, CheckProgress)
        except BadRequest as error:
            logger().debug("progress_unreadable", subject=message.subject, error=str(error))
            return
        key = CheckKey.of(progress)
        self._last[key] = progress
        self._last.move_to_end(key)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        for queue in self._listeners.get(key, ()):
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(progress)
