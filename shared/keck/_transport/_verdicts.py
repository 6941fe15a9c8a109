"""Verdicts for those who wait: one subscription per run, and direct reads for what it cannot have heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest, Misaddressed, Unavailable
from keck.logs import logger
from keck.messages import EvalDone, decode_verdict
from keck.subjects import CheckKey

__all__ = ["Verdicts"]

_SWEEP_EVERY_S = 30.0
_LOOK_EVERY_S = 0.5
_READS_AT_ONCE = 32


@dataclass(slots=True)
class _Pending:
    """One check somebody waits for, and how many do."""

    future: asyncio.Future[EvalDone]
    waiters: int = 0


class Verdicts:
    """Futures of checks, resolved by what the server has stored and by nothing else."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[CheckKey, _Pending] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Cancel whoever still waits."""
        tasks = [self._sweeper, *self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pending in self._waiting.values():
            pending.future.cancel()

    async def wait(self, key: CheckKey) -> EvalDone:
        """The verdict of this check, now or when it is stored.

        Raises:
            Unavailable: the bus cannot be asked.
            BadRequest: the stored verdict is of a version this client cannot read.
        """
        pending = self._waiting.setdefault(key, _Pending(asyncio.get_running_loop().create_future()))
        pending.waiters += 1
        try:
            await self._listen(key.run)
            await self._read(key)
            # Several may wait for one check: one of them giving up must not cancel the others' future.
            return await asyncio.shield(pending.future)
        finally:
            pending.waiters -= 1
            if pending.waiters == 0:
                self._waiting.pop(key, None)
                pending.future.cancel()

    async def _listen(self, run: str) -> None:
        """Subscribe to a run's verdicts once; everybody who waits for it awaits the same subscription."""
        if run not in self._runs:
            self._runs[run] = asyncio.create_task(self._subscribe(run))
        try:
            await asyncio.shield(self._runs[run])
        except Exception:
            self._runs.pop(run, None)
            raise

    async def _subscribe(self, run: str) -> None:
        await self._bus.subscribe(f"live.eval.done.{run}.>", self._heard)

    async def _heard(self, message: Msg) -> None:
        try:
            self._resolve(subjects.check_key(message.subject), message.data)
        except ValueError:
            return  # of another shape: not a verdict's subject
        except Misaddressed as error:
            # Not stored there, or the next read says so: what was heard decides nothing.
            logger().warning("verdict_misaddressed", subject=message.subject, reason=str(error))

    async def _read(self, key: CheckKey) -> None:
        """Resolve from the stream what was stored before we listened."""
        async with self._reads:
            stored = await self._bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
        if stored is not None:
            try:
                self._resolve(key, stored[1])
            except Misaddressed as error:
                self._waiting[key].future.set_exception(error)

    def _resolve(self, key: CheckKey, data: bytes) -> None:
        pending = self._waiting.get(key)
        if pending is None or pending.future.done():
            return
        try:
            pending.future.set_result(decode_verdict(data, of=key))
        except Misaddressed:
            raise
        except BadRequest as error:
            pending.future.set_exception(error)

    async def _sweep(self) -> None:
        """Read what is waited for after each reconnection, and now and then: live messages can be lost."""
        reconnections = self._bus.nc.stats["reconnects"]
        since_s = 0.0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            since_s += _LOOK_EVERY_S
            if self._bus.nc.stats["reconnects"] == reconnections and since_s < _SWEEP_EVERY_S:
                continue
            reconnections = self._bus.nc.stats["reconnects"]
            since_s = 0.0
            reads = await asyncio.gather(
                *(self._read(key) for key in list(self._waiting)), return_exceptions=True
            )
            lost = [read for read in reads if isinstance(read, Unavailable)]
            if lost:
                logger().warning("verdicts_unread", count=len(lost), error=str(lost[0]))
