"""Who is alive: heartbeats in the ``workers`` bucket, written by each worker and watched by all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest, Unavailable
from keck.logs import logger
from keck.messages import Heartbeat, decode, encode

__all__ = ["Beat", "Fleet"]

LIVE_FOR_S: Final = 10.0
"""A worker not heard of for this long is counted dead: four beats missed."""
_STREAM: Final = f"KV_{subjects.WORKERS_BUCKET}"
_KEYS: Final = f"$KV.{subjects.WORKERS_BUCKET}.>"
_OPERATION: Final = "KV-Operation"
_POLL_S: Final = 0.5


class Beat:
    """Writes this worker's heartbeat every few seconds, and its farewell when stopped."""

    def __init__(self, bus: Bus, make: Callable[[], Heartbeat], *, every_s: float = 2.0) -> None:
        self._bus = bus
        self._make = make
        self._every_s = every_s

    async def run(self) -> None:
        """Beat until cancelled; then delete the entry, so that nobody waits for it to grow old."""
        try:
            while True:
                await self.now()
                await asyncio.sleep(self._every_s)
        finally:
            await self._send(_key(self._make().worker), b"", {_OPERATION: "DEL"})

    async def now(self) -> None:
        """One heartbeat at once, for a change of state that others should hear of."""
        heartbeat = self._make()
        await self._send(_key(heartbeat.worker), encode(heartbeat), None)

    async def _send(self, subject: str, payload: bytes, headers: dict[str, str] | None) -> None:
        if not self._bus.nc.is_connected:
            return  # buffered beats would arrive late and lie about the time
        try:
            await self._bus.nc.publish(subject, payload, headers=headers)
        except nats.errors.Error as error:
            logger().warning("heartbeat_lost", error=str(error))


@dataclass(slots=True)
class _Seen:
    heartbeat: Heartbeat
    at: float
    """Monotonic, by this process's own clock: the workers' clocks may differ."""


class Fleet:
    """A live view of all workers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seen: dict[str, _Seen] = {}
        self._changed = asyncio.Event()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to watch; returns once every worker already there is known."""
        self._subscription = await self._bus.subscribe(_KEYS, self._received)
        await self._load()

    async def stop(self) -> None:
        """Stop watching."""
        if self._subscription is not None and not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    def live(self, role: str | None = None) -> list[Heartbeat]:
        """Workers heard of lately, by name; of one role if given."""
        since = time.monotonic() - LIVE_FOR_S
        return [
            seen.heartbeat
            for _, seen in sorted(self._seen.items())
            if seen.at > since and role in (None, seen.heartbeat.role)
        ]

    def executors(self) -> list[Heartbeat]:
        """Live executors, in whatever state."""
        return self.live("executor")

    def has_target(self, target: str) -> bool:
        """Whether a live executor that takes work serves `target`; any GPU serves ``cuda-any``."""
        return any(
            worker.target == target or (target == subjects.CUDA_ANY and worker.target.startswith("sm"))
            for worker in self.executors()
            if worker.state == "ready"
        )

    async def wait_for(self, predicate: Callable[[Fleet], bool], timeout_s: float) -> bool:
        """Wait until the fleet satisfies the predicate; False if it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not predicate(self):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.clear()
            try:
                # Growing old is no message: look again now and then.
                await asyncio.wait_for(self._changed.wait(), min(left, _POLL_S))
            except TimeoutError:
                continue
        return True

    async def _received(self, message: Msg) -> None:
        self._apply(message.subject, message, age_s=0.0)

    async def _load(self) -> None:
        """Every key's last value, by one batched direct get."""
        query = {"multi_last": [_KEYS], "batch": 1000}
        try:
            async for message in self._bus.batch(_STREAM, query):
                self._apply((message.headers or {}).get("Nats-Subject", ""), message, age_s=None)
        except Unavailable as error:
            # Not fatal: within one beat every live worker has been heard anyway.
            logger().warning("fleet_not_loaded", error=str(error))

    def _apply(self, subject: str, message: Msg, *, age_s: float | None) -> None:
        name = subject.removeprefix(f"$KV.{subjects.WORKERS_BUCKET}.")
        if not message.data or _OPERATION in (message.headers or {}):
            self._seen.pop(name, None)
        else:
            try:
                heartbeat = decode(message.data, Heartbeat)
            except BadRequest as error:
                logger().warning("heartbeat_unreadable", subject=subject, error=str(error))
                return
            age = max(0.0, time.time() - heartbeat.at) if age_s is None else age_s
            if age_s is None and name in self._seen:
                return  # heard live meanwhile, which is newer than what was stored
            self._seen[name] = _Seen(heartbeat, time.monotonic() - age)
        self._changed.set()


def _key(worker: str) -> str:
    return f"$KV.{subjects.WORKERS_BUCKET}.{worker}"
