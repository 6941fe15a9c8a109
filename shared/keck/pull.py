"""A continuous pull from one durable consumer: what ``PullSubscription.fetch`` of nats-py lacks.

* demand is a level: never more messages in this process, or on their way to it, than were wanted;
* after a reconnect, or two missed server heartbeats, it asks again at once (``fetch`` stays deaf until its
  timeout), on a fresh inbox, since a pull tied to the old one may still be honoured;
* a deleted consumer is an exception and not a silent timeout;
* stopping unsubscribes first, so that the server gives what is waiting to somebody else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from keck.bus import Bus
from keck.errors import Unavailable
from keck.logs import logger

__all__ = ["ConsumerGone", "PullLoop"]

_NS: Final = 1_000_000_000
_TICK_S: Final = 0.1
_POLL_TIMEOUT_S: Final = 1.0
_GONE_AFTER_S: Final = 30.0
"""No responders for longer than any leader election: the consumer does not exist."""


class ConsumerGone(Unavailable):
    """The durable consumer does not exist, or not any more."""


class PullLoop:
    """Messages of one consumer, kept `level` deep.

    `on_arrival` is called, from the event loop, whenever a message is there to take or the loop has failed.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str,
        consumer: str,
        on_arrival: Callable[[], None],
        expires_s: float = 10.0,
        heartbeat_s: float = 2.0,
    ) -> None:
        self.consumer = consumer
        self.rearmed = 0
        """Times the pull had to be renewed after silence or a reconnect."""
        self.error: ConsumerGone | None = None
        self._nc = bus.nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_arrival = on_arrival
        self._expires_ns = int(expires_s * _NS)
        self._heartbeat_s = heartbeat_s
        self._held: deque[Msg] = deque()
        self._level = 0
        self._asked = 0
        self._request = 0
        self._heard_at = 0.0
        self._silent_since: float | None = None
        self._ask_again_at: float | None = None
        self._polled: asyncio.Future[None] | None = None
        self._stopped = False
        self._inbox = ""
        self._reconnects = 0
        self._subscription: Subscription | None = None
        self._monitor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, and from now on ask for what is wanted."""
        self._reconnects = self._nc.stats["reconnects"]
        await self._listen()
        self._monitor = asyncio.create_task(self._watch(), name=f"pull-{self.consumer}")

    def held(self) -> tuple[Msg, ...]:
        """Messages that arrived and were not taken."""
        return tuple(self._held)

    def take(self) -> Msg | None:
        """The oldest held message, if there is one.

        Raises:
            ConsumerGone: nothing is held and nothing will come.
        """
        if self._held:
            return self._held.popleft()
        if self.error is not None:
            raise self.error
        return None

    async def want(self, level: int) -> None:
        """Have up to `level` messages held or on their way; a lower level takes no request back."""
        self._level = level
        await self._ask()

    async def poll(self) -> bool:
        """Whether the consumer has a message right now; if so it is held on return.

        With a pull outstanding the answer is known without asking: it would have been filled.
        """
        if self._held or self._asked or self._stopped or not self._nc.is_connected:
            return bool(self._held)
        self._polled = asyncio.get_running_loop().create_future()
        await self._send({"batch": 1, "no_wait": True}, count=1)
        try:
            await asyncio.wait_for(self._polled, _POLL_TIMEOUT_S)
        except TimeoutError:
            logger().debug("poll_unanswered", consumer=self.consumer)
        finally:
            self._polled = None
        return bool(self._held)

    async def stop(self) -> list[Msg]:
        """Stop; returns what arrived and was not taken, for the caller to hand back."""
        self._stopped = True
        if self._monitor is not None:
            self._monitor.cancel()
            await asyncio.gather(self._monitor, return_exceptions=True)
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = self._monitor = None
        left = list(self._held)
        self._held.clear()
        return left

    async def _listen(self) -> None:
        old, self._inbox = self._subscription, self._nc.new_inbox()
        self._subscription = await self._nc.subscribe(
            f"{self._inbox}.*", cb=self._received, pending_msgs_limit=0, pending_bytes_limit=0
        )
        if old is not None:
            await old.unsubscribe()

    async def _ask(self) -> None:
        count = self._level - len(self._held) - self._asked
        if count <= 0 or self._stopped or self.error is not None or self._ask_again_at is not None:
            return
        heartbeat_ns = int(self._heartbeat_s * _NS)
        await self._send(
            {"batch": count, "expires": self._expires_ns, "idle_heartbeat": heartbeat_ns}, count=count
        )

    async def _send(self, body: dict[str, int | bool], *, count: int) -> None:
        self._asked += count
        self._request += 1
        self._heard_at = time.monotonic()
        try:
            await self._nc.publish(self._subject, json.dumps(body).encode(), f"{self._inbox}.{self._request}")
        except nats.errors.Error as error:
            # Disconnected with a full buffer, or closing: the monitor asks again after the reconnect.
            logger().debug("pull_not_sent", consumer=self.consumer, error=str(error))

    async def _received(self, message: Msg) -> None:
        self._heard_at = time.monotonic()
        status = (message.headers or {}).get("Status")
        if self._polled is not None and status != "100" and not self._polled.done():
            self._polled.set_result(None)
        if status != "503":
            self._silent_since = None
        if status is None:
            self._asked = max(0, self._asked - 1)
            self._held.append(message)
            self._on_arrival()
        elif status != "100":  # 100: an idle heartbeat
            await self._ended(status, message)

    async def _ended(self, status: str, message: Msg) -> None:
        """A pull request is over: expired, refused, or nobody there."""
        headers = message.headers or {}
        description = headers.get("Description", "").lower()
        if status == "400" or "consumer deleted" in description or "push based" in description:
            self._fail(f"{status} {description}")
            return
        if status == "503":
            # An election or a restart looks the same as a consumer that is not there; time tells.
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > _GONE_AFTER_S:
                self._fail("nobody answers for it")
                return
            self._asked = 0
            self._ask_again_at = time.monotonic() + 0.25
            return
        self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages") or self._asked))
        if status == "409":  # too many waiting, leadership change, server shutdown: never spin
            self._ask_again_at = time.monotonic() + 0.5
        await self._ask()

    def _fail(self, reason: str) -> None:
        self.error = ConsumerGone(f"consumer {self.consumer}: {reason}")
        self._on_arrival()

    async def _watch(self) -> None:
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if now - slept_at > 1.0:
                # The loop was blocked, not the server silent: what it sent is still to be read.
                self._heard_at = now
            if not self._nc.is_connected:
                continue
            if self._ask_again_at is not None and now >= self._ask_again_at:
                self._ask_again_at = None
                await self._ask()
            reconnects = self._nc.stats["reconnects"]
            silent = self._asked > 0 and now - self._heard_at > 2 * self._heartbeat_s + 1
            if reconnects != self._reconnects or silent:
                self._reconnects = reconnects
                await self._rearm()

    async def _rearm(self) -> None:
        self.rearmed += 1
        self._asked = 0
        self._ask_again_at = None
        self._heard_at = time.monotonic()
        await self._listen()
        await self._ask()
