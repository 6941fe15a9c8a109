"""Everything that happens in one run, as it is heard: nothing is read from streams, and what is missed is missed."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest
from keck.messages import CheckProgress, EvalDone, decode, decode_verdict

__all__ = ["RunFeed"]

_BACKLOG: Final = 4_096
"""Events that whoever reads may lag behind; more are dropped."""


class RunFeed:
    """Progress and verdicts of the checks of a run while the block lasts."""

    def __init__(self, bus: Bus, run: str) -> None:
        self._bus = bus
        self._run = run
        self._events: asyncio.Queue[CheckProgress | EvalDone] = asyncio.Queue()
        self._subscriptions: list[Subscription] = []

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.shield(listening)
        except asyncio.CancelledError:
            # nats-py's reader trips over a flush that was cancelled: let it end first.
            await asyncio.gather(listening, return_exceptions=True)
            await self._stop()
            raise
        return self

    async def _listen(self) -> None:
        for subject in (subjects.progress(self._run, "*"), f"live.eval.done.{self._run}.>"):
            self._subscriptions.append(await self._bus.subscribe(subject, self._heard))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        await self._stop()

    async def _stop(self) -> None:
        if not self._bus.nc.is_closed:
            for subscription in self._subscriptions:
                await subscription.unsubscribe()

    async def next(self, timeout_s: float | None = None) -> CheckProgress | EvalDone | None:
        """The next event; None if there is none within `timeout_s` seconds."""
        try:
            return await asyncio.wait_for(self._events.get(), timeout_s)
        except TimeoutError:
            return None

    async def _heard(self, message: Msg) -> None:
        try:
            event = (
                decode_verdict(message.data, of=subjects.check_key(message.subject))
                if message.subject.startswith("live.")
                else decode(message.data, CheckProgress)
            )
        except (BadRequest, ValueError):
            return  # of another version, or of another check's: to be watched is all that it is for
        if self._events.qsize() < _BACKLOG:
            self._events.put_nowait(event)
