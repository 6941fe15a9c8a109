"""Messages that ran out of deliveries: every worker that was given one died before it could say so.

The server tells of them in ADVISORY, once somebody pulls again. Such a message stays in its queue, is given to nobody
any more and still counts: it is buried, its check answered, and it is taken out.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus, is_direct_miss
from keck.dead_letters import Letter, bury, verdict_on_unreadable
from keck.endings import lost
from keck.errors import BadRequest, KeckError, NotFound
from keck.logs import logger
from keck.messages import CheckRequested, CompileDone, decode
from keck.pull import PullLoop
from keck.streams import ADVISORY, UNDELIVERED_CONSUMER
from keck.subjects import CheckKey
from keck_gateway.closing import Closing

__all__ = ["Undelivered"]

_AGAIN_S: Final = 5.0
_REASON: Final = "every worker that was given it was lost at once"
_STAGES: Final = {subjects.CHECKS: "compile", subjects.BUILDS: "execute"}


def _event_in(letter: Letter) -> CheckRequested | CompileDone:
    if letter.stream == subjects.BUILDS:
        return decode(letter.data, CompileDone)
    return decode(letter.data, CheckRequested)


class _Advisory(msgspec.Struct, frozen=True):
    stream: str
    stream_seq: int
    deliveries: int = 0


class Undelivered:
    """Answers for what cannot be delivered; several gateways share the work."""

    def __init__(self, bus: Bus, closing: Closing) -> None:
        self._bus = bus
        self._closing = closing
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Read advisories until cancelled.

        Raises:
            ConsumerGone: the durable consumer was deleted.
        """
        loop = PullLoop(self._bus, stream=ADVISORY, consumer=UNDELIVERED_CONSUMER, on_arrival=self._wake.set)
        await loop.start()
        try:
            while True:
                self._wake.clear()
                await loop.want(1)
                while (message := loop.take()) is not None:
                    await self._settle(message)
                    await loop.want(1)
                await self._wake.wait()
        finally:
            await loop.stop()

    async def _settle(self, message: Msg) -> None:
        try:
            try:
                await self._answer(msgspec.json.decode(message.data, type=_Advisory))
            except (msgspec.DecodeError, KeckError) as error:
                logger().warning("advisory_not_settled", error=str(error))
                await message.nak(_AGAIN_S)
            else:
                await message.ack()
        except (nats.errors.Error, TimeoutError) as error:
            logger().warning("acknowledgement_lost", error=type(error).__name__)

    async def _answer(self, advisory: _Advisory) -> None:
        if advisory.stream not in _STAGES:
            return
        letter = await self._letter(advisory)
        if letter is None:
            return  # acknowledged after all
        logger().error("message_undelivered", subject=letter.subject, deliveries=advisory.deliveries)
        await bury(self._bus, letter, stage=_STAGES[advisory.stream], reason=_REASON)
        try:
            event = _event_in(letter)
            key = CheckKey.of(event)
            await self._closing.close(
                key,
                lambda event: lost(event, _REASON, failure_kind="worker_lost", attempts=advisory.deliveries),
            )
        except NotFound:
            pass
        except BadRequest as error:
            verdict = verdict_on_unreadable(letter, str(error))
            if verdict is not None:
                await self._bus.publish_terminal(verdict)
        await self._bus.delete_message(advisory.stream, advisory.stream_seq)

    async def _letter(self, advisory: _Advisory) -> Letter | None:
        body = msgspec.json.encode({"seq": advisory.stream_seq})
        message = await self._bus.request(f"$JS.API.DIRECT.GET.{advisory.stream}", body)
        if is_direct_miss(message):
            return None
        headers = message.headers or {}
        return Letter(
            stream=advisory.stream,
            sequence=advisory.stream_seq,
            stored_at=re.sub(r"\W", "", headers["Nats-Time-Stamp"]),
            subject=headers["Nats-Subject"],
            data=message.data,
        )
