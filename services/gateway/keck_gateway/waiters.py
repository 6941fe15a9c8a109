"""Everybody who waits for a verdict: one subscription, one dict of futures, direct reads for what it misses.

A consumer or a watch per request would end at the server's limit of consumers, some hundred waiters in; a
dict has none. What the core subscription loses, while disconnected or as a slow consumer, the stream has:
it is read when a wait begins, when it ends, after every reconnection, and now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest, Misaddressed, QueueFull, Unavailable
from keck.logs import logger
from keck.messages import EvalDone, decode_verdict
from keck.subjects import CheckKey
from keck_gateway.problems import ShuttingDown

__all__ = ["SHUTTING_DOWN", "Waiters"]

SHUTTING_DOWN = "the gateway is shutting down; ask again, the check itself goes on"

_LOOK_EVERY_S = 0.25
_SWEEP_EVERY_S = 30.0
_LAST_LOOK_S = 5.0
_READS_AT_ONCE = 64


class Waiters:
    """Futures of verdicts, resolved by what the server has stored and by nothing else.

    Args:
        limit: callers that may wait at once.
        on_verdict: told of every verdict that is stored, unless it was missed.
    """

    def __init__(
        self, bus: Bus, *, limit: int, on_verdict: Callable[[CheckKey], None] = lambda key: None
    ) -> None:
        self._bus = bus
        self._limit = limit
        self._on_verdict = on_verdict
        self._waiting: dict[CheckKey, set[asyncio.Future[EvalDone]]] = {}
        self._count = 0
        self._closed = False
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    @property
    def count(self) -> int:
        """Callers that wait now."""
        return self._count

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear verdicts while this lasts."""
        subscription = await self._bus.subscribe(subjects.LIVE_EVALS, self._heard)
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    def require_room(self) -> None:
        """Raise QueueFull if one more may not wait, ShuttingDown if nobody may."""
        if self._closed:
            raise ShuttingDown(SHUTTING_DOWN)
        if self._count >= self._limit:
            raise QueueFull(
                f"{self._limit} callers wait on this gateway already; ask again later, submit without waiting, "
                "or raise KECK_MAX_WAITING"
            )

    @contextmanager
    def place(self, key: CheckKey) -> Iterator[asyncio.Future[EvalDone]]:
        """A future of the verdict, given up when the block ends.

        Raises:
            QueueFull: as many wait as may.
            ShuttingDown: the gateway is about to end.
        """
        self.require_room()
        future: asyncio.Future[EvalDone] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        self._count += 1
        try:
            yield future
        finally:
            self._count -= 1
            future.cancel()
            futures = self._waiting[key]
            futures.discard(future)
            if not futures:
                del self._waiting[key]

    async def wait(
        self, key: CheckKey, future: asyncio.Future[EvalDone], *, timeout_s: float
    ) -> EvalDone | None:
        """The verdict as soon as it is stored; None if it is not in time.

        Raises:
            Unavailable: the time is over and the bus does not say whether there is one.
        """
        # Beside the wait and not before it: while the bus is away a read takes longer than many would wait.
        reading = asyncio.create_task(self._read_if_possible(key))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return await self._last_look(key)
        finally:
            reading.cancel()

    async def stored(self, key: CheckKey) -> EvalDone | None:
        """The verdict in the stream, if there is one.

        Raises:
            Unavailable: the bus does not answer.
        """
        async with self._reads:
            found = await self._bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
        return decode_verdict(found[1], of=key) if found else None

    async def close(self, *, grace_s: float) -> None:
        """Let nobody begin to wait; answer those who do with ShuttingDown after a moment of grace."""
        self._closed = True
        waiting = {future for futures in self._waiting.values() for future in futures}
        if not waiting:
            return
        _, left = await asyncio.wait(waiting, timeout=grace_s)
        for future in left:
            future.set_exception(ShuttingDown(SHUTTING_DOWN))
            future.exception()  # seen: a caller who leaves at this moment needs no warning of it

    async def _heard(self, message: Msg) -> None:
        try:
            key = subjects.check_key(message.subject)
            self._on_verdict(key)
            self._resolve(key, message.data)
        except ValueError:
            return  # not a verdict's subject
        except Misaddressed as error:
            # Not stored there, or the next read says so: what was heard decides nothing.
            logger().warning("verdict_misaddressed", subject=message.subject, reason=str(error))

    async def _last_look(self, key: CheckKey) -> EvalDone | None:
        try:
            async with asyncio.timeout(_LAST_LOOK_S):
                return await self.stored(key)
        except TimeoutError:
            raise Unavailable("the bus does not answer; ask again for this check") from None

    async def _read_if_possible(self, key: CheckKey) -> None:
        with suppress(Unavailable):  # the sweep after the reconnection reads it
            await self._read(key)

    async def _read(self, key: CheckKey) -> None:
        async with self._reads:
            found = await self._bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
        if found is not None:
            try:
                self._resolve(key, found[1])
            except Misaddressed as error:
                self._fail(key, error)

    def _resolve(self, key: CheckKey, data: bytes) -> None:
        futures = [future for future in self._waiting.get(key, ()) if not future.done()]
        if not futures:
            return
        try:
            event = decode_verdict(data, of=key)
        except Misaddressed:
            raise
        except BadRequest as error:
            self._fail(key, error)
            return
        for future in futures:
            future.set_result(event)

    def _fail(self, key: CheckKey, error: BadRequest) -> None:
        logger().error("verdict_unreadable", check_id=key.check_id, run=key.run, error=str(error))
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_exception(Unavailable(f"the stored verdict cannot be read: {error}"))

    async def _sweep(self) -> None:
        """Read all that is waited for after each reconnection, and every half minute."""
        reconnects = self._bus.nc.stats["reconnects"]
        since_s = 0.0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            since_s += _LOOK_EVERY_S
            if self._bus.nc.stats["reconnects"] == reconnects and since_s < _SWEEP_EVERY_S:
                continue
            reconnects = self._bus.nc.stats["reconnects"]
            since_s = 0.0
            reads = await asyncio.gather(*map(self._read, list(self._waiting)), return_exceptions=True)
            failed = [read for read in reads if isinstance(read, BaseException)]
            if failed:
                logger().warning("verdicts_unread", count=len(failed), error=str(failed[0]))
                reconnects = -1  # again at the next look
