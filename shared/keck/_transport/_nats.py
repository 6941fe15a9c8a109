"""NATS: publishes the request itself and hears verdicts as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

from nats.aio.msg import Msg

from keck import subjects
from keck._transport._verdicts import Verdicts
from keck.bus import Bus, connect
from keck.errors import BadRequest
from keck.fleet import Fleet
from keck.load import Load
from keck.messages import CheckProgress, CheckRequested, EvalDone, Heartbeat, decode
from keck.queues import load_of
from keck.run_feed import RunFeed
from keck.settings import Settings
from keck.subjects import CheckKey

__all__ = ["NatsTransport"]


class NatsTransport:
    """One NATS connection, one subscription for verdicts per run."""

    def __init__(self, url: str, *, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._bus: Bus | None = None
        self._verdicts: Verdicts | None = None
        self._fleet: Fleet | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: no server answers there.
        """
        self._bus = await connect(self._settings, name="keck-client", url=self._url)
        self._verdicts = Verdicts(self._bus)

    async def close(self) -> None:
        """Close the connection; whoever still waits is cancelled."""
        if self._verdicts is not None:
            await self._verdicts.close()
        if self._fleet is not None:
            await self._fleet.stop()
        if self._bus is not None:
            await self._bus.close()

    async def submit(self, request: CheckRequested) -> CheckKey:
        """Store the request; the same id twice is one check."""
        key = CheckKey(request.run, request.check_id, request.generation)
        await self._connected.publish(
            subjects.check_requested(request.lane, request.run, request.check_id),
            request,
            msg_id=subjects.request_id(key),
        )
        return key

    async def submit_and_wait(self, request: CheckRequested) -> EvalDone:
        """Store the request and wait for its verdict."""
        return await self._heard.wait(await self.submit(request))

    async def result(self, key: CheckKey) -> EvalDone:
        """The stored verdict, now or when it comes."""
        return await self._heard.wait(key)

    async def events(self, key: CheckKey) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Progress from now on, ended by the verdict."""
        async with _Progress(self._connected, self._heard, key) as progress:
            async for event in progress:
                yield event

    async def follow(self, request: CheckRequested) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Listen first, then store the request, so that no stage is missed."""
        key = CheckKey(request.run, request.check_id, request.generation)
        async with _Progress(self._connected, self._heard, key) as progress:
            await self.submit(request)
            async for event in progress:
                yield event

    async def executors(self) -> list[Heartbeat]:
        """Executors with a recent heartbeat."""
        return (await self._watched_fleet()).executors()

    async def load(self) -> Load:
        """Workers by their heartbeats; queues as the server tells of its consumers, where this user may ask."""
        return await load_of(self._connected, await self._watched_fleet())

    async def watch(self, run: str) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """What is heard of a run; subscriptions outlast a lost connection."""
        async with RunFeed(self._connected, run) as feed:
            while True:
                event = await feed.next()
                if event is not None:
                    yield event

    async def _watched_fleet(self) -> Fleet:
        if self._fleet is None:
            self._fleet = Fleet(self._connected)
            await self._fleet.start()
        return self._fleet

    @property
    def _connected(self) -> Bus:
        if self._bus is None:
            raise BadRequest("the client is not open: use it as `async with Client(…) as client`")
        return self._bus

    @property
    def _heard(self) -> Verdicts:
        if self._verdicts is None:
            raise BadRequest("the client is not open: use it as `async with Client(…) as client`")
        return self._verdicts


class _Progress:
    """Progress of one check, interleaved with the wait for its verdict."""

    def __init__(self, bus: Bus, verdicts: Verdicts, key: CheckKey) -> None:
        self._bus = bus
        self._verdicts = verdicts
        self._key = key
        self._events: asyncio.Queue[CheckProgress | EvalDone | BaseException] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.subscribe(
            subjects.progress(self._key.run, self._key.check_id), self._heard
        )
        self._waiter = asyncio.create_task(self._wait())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._waiter.cancel()
        await asyncio.gather(self._waiter, return_exceptions=True)
        if not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()

    async def __aiter__(self) -> AsyncIterator[CheckProgress | EvalDone]:
        while True:
            event = await self._events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, EvalDone):
                return

    async def _heard(self, message: Msg) -> None:
        try:
            event = decode(message.data, CheckProgress)
        except BadRequest:  # of another version: progress may be missed, so it may be left out
            return
        if event.generation == self._key.generation:
            self._events.put_nowait(event)

    async def _wait(self) -> None:
        try:
            self._events.put_nowait(await self._verdicts.wait(self._key))
        except Exception as error:  # noqa: BLE001 - handed to whoever iterates
            self._events.put_nowait(error)
