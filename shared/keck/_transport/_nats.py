"""NATS: publishes the request itself and hears verdicts as they are stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

import msgspec
import nats.errors
from nats.aio.msg import Msg

from keck import subjects
from keck._transport._problems import read_reply
from keck._transport._verdicts import Verdicts
from keck.bus import Bus, connect
from keck.errors import BadRequest, Unavailable
from keck.fleet import Fleet
from keck.load import Load
from keck.messages import (
    CheckCancel,
    CheckProgress,
    CheckRequested,
    EvalDone,
    Heartbeat,
    Replay,
    ReplayProgress,
    decode,
    encode,
)
from keck.queues import load_of
from keck.run_feed import RunFeed
from keck.settings import Settings
from keck.subjects import CheckKey

__all__ = ["NatsTransport"]


_ANSWER_TIMEOUT_S = 5.0
_CANCELLED_WITHIN_S = 5.0
_SILENCE_S = 30.0
"""A gateway tells of a replay every second."""


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
        key = CheckKey.of(request)
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
        key = CheckKey.of(request)
        async with _Progress(self._connected, self._heard, key) as progress:
            await self.submit(request)
            async for event in progress:
                yield event

    async def cancel(self, key: CheckKey, reason: str) -> EvalDone:
        """Tell everybody; a gateway answers, and without one only a worker that holds the check ends it."""
        order = CheckCancel(check_id=key.check_id, run=key.run, generation=key.generation, reason=reason)
        decode(encode(order), CheckCancel)  # a bad name is refused here: a subject is made of it
        subject = subjects.cancel(key.run, key.check_id)
        try:
            answer = await self._connected.nc.request(subject, encode(order), timeout=_ANSWER_TIMEOUT_S)
        except (TimeoutError, nats.errors.Error) as error:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self.result(key), _CANCELLED_WITHIN_S)
            raise Unavailable(
                f"nobody ended {key.check_id}: no gateway answers on this bus, and no worker holds it"
            ) from error
        return read_reply(answer.data, EvalDone)

    async def replay(self, order: Replay) -> AsyncGenerator[ReplayProgress, None]:
        """Ask whichever gateway is there; it goes on when the caller leaves."""
        nc = self._connected.nc
        answers = await nc.subscribe(inbox := nc.new_inbox())
        try:
            await nc.publish(subjects.REPLAY_SERVICE, msgspec.msgpack.encode(order), inbox)
            while True:
                progress = read_reply((await answers.next_msg(timeout=_SILENCE_S)).data, ReplayProgress)
                yield progress
                if progress.finished or progress.error:
                    return
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(
                "no gateway tells of the replay: is one running on this bus, and may this user ask it?"
            ) from error
        finally:
            with contextlib.suppress(nats.errors.Error):
                await answers.unsubscribe()

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
