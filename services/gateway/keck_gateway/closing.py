"""Ending a check from outside, wherever it is: the verdict first, then whoever works at it, then its messages.

In this order nothing can be lost or doubled. Once the verdict is stored the server refuses every other one; a worker
that does not hear of it works in vain; and a message that leaves its queue late is acknowledged by whoever gets it.
"""

from __future__ import annotations

from collections.abc import Callable

import nats.errors

from keck import subjects
from keck.bus import Bus
from keck.errors import NotFound, Unavailable
from keck.logs import logger
from keck.messages import CheckCancel, CheckRequested, CompileDone, EvalDone, encode
from keck.subjects import CheckKey
from keck_gateway.lookup import Lookup

__all__ = ["Closing"]


class Closing:
    """Ends checks that no worker ends."""

    def __init__(self, bus: Bus, lookup: Lookup) -> None:
        self._bus = bus
        self._lookup = lookup

    async def close(
        self,
        key: CheckKey,
        verdict_on: Callable[[CheckRequested | CompileDone], EvalDone],
        *,
        tell_workers: bool = True,
    ) -> EvalDone:
        """Give a check this verdict unless it has one; the verdict that is stored.

        Args:
            key: of the check.
            verdict_on: makes the verdict from what is known of it.
            tell_workers: False where they were told already.

        Raises:
            NotFound: no stream knows it.
            Unavailable: the bus does not answer.
        """
        if (known := await self._lookup.verdict(key)) is not None:
            return known
        try:
            event = await self._lookup.newest(key)
        except NotFound:
            # A worker may have ended it meanwhile, and taken its last message out of the queue.
            if (known := await self._lookup.verdict(key)) is not None:
                return known
            raise
        ours = verdict_on(event)
        if await self._bus.publish_terminal(ours):
            logger().info("check_closed", check_id=key.check_id, run=key.run, verdict=str(ours.verdict))
            if tell_workers:
                await self._tell_workers(key, ours.message)
            await self._empty_queues(key)
            return ours
        if (known := await self._lookup.verdict(key)) is not None:
            return known
        raise Unavailable(f"neither is a verdict of {key.check_id} stored nor can one be: is EVALS full?")

    async def _tell_workers(self, key: CheckKey, reason: str) -> None:
        order = CheckCancel(
            check_id=key.check_id, run=key.run, generation=key.generation, reason=reason[:200]
        )
        try:
            await self._bus.nc.publish(subjects.cancel(key.run, key.check_id), encode(order))
        except nats.errors.Error as error:
            logger().warning("cancel_lost", check_id=key.check_id, error=str(error))

    async def _empty_queues(self, key: CheckKey) -> None:
        """Take the check's messages out of the queues, so that none waits there for a worker that never comes."""
        for stream, sequence in await self._lookup.queued(key):
            try:
                await self._bus.delete_message(stream, sequence)
            except Unavailable as error:
                logger().warning("message_not_deleted", stream=stream, sequence=sequence, error=str(error))
