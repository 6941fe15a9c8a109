"""One compiler builds, the others wait: claims on builds, in the bus's ``builds`` bucket.

A claim is a message that its holder renews. Others take it over when it has not changed for a while by their own
clocks, so that no clocks are compared and a compiler that is killed costs only the build it had in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.js.errors import APIError

from keck import subjects
from keck.bus import Bus
from keck.errors import KeckError
from keck.logs import logger

__all__ = ["BuildClaims"]

_WRONG_LAST_SEQUENCE = 10071
_RENEW_S = 5.0
_STALE_S = 20.0
_POLL_S = 0.5
_HELD = b"held"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class BuildClaims:
    """Claims of one compiler.

    Args:
        bus: where claims are kept.
        stale_s: how long a claim has to stay unchanged before it is taken over.
        renew_s: how often a claim is renewed.
    """

    def __init__(self, bus: Bus, *, stale_s: float = _STALE_S, renew_s: float = _RENEW_S) -> None:
        self._bus = bus
        self._stale_s = stale_s
        self._renew_s = renew_s

    @contextlib.asynccontextmanager
    async def hold(self, key: str, done: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
        """Hold the claim on a build, or find that somebody else has done it meanwhile.

        Yields True with the claim, False when ``done()`` says that there is nothing left to do. Where the bus does
        not play along, the build is done without a claim: twice is better than never.
        """
        subject = f"$KV.{subjects.BUILDS_INDEX_BUCKET}.claim.{key}"
        try:
            sequence = await self._take(subject, done)
        except KeckError as error:
            logger().warning("build_not_claimed", key=key, error=str(error))
            yield True
            return
        if sequence is None:
            yield False
            return
        renewing = asyncio.create_task(self._renew(subject, sequence), name="build claim")
        try:
            yield True
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with contextlib.suppress(KeckError, APIError):
                await self._bus.store(subject, b"", headers={"KV-Operation": "DEL"}, once=True)

    async def _take(self, subject: str, done: Callable[[], Awaitable[bool]]) -> int | None:
        """The claim's sequence once it is ours; None when the build is done."""
        seen, since = 0, time.monotonic()
        while True:
            found = await self._bus.last_by_subject(f"KV_{subjects.BUILDS_INDEX_BUCKET}", subject)
            sequence, held = (found[0], found[1] == _HELD) if found is not None else (0, False)
            if sequence != seen:
                seen, since = sequence, time.monotonic()
            if not held or time.monotonic() - since >= self._stale_s:
                # Whoever had it may have finished between the caller's look-up and this one.
                if await done():
                    return None
                taken = await self._store(subject, sequence)
                if taken is not None:
                    return taken
                continue
            await asyncio.sleep(_POLL_S)
            if await done():
                return None

    async def _renew(self, subject: str, sequence: int) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            with contextlib.suppress(KeckError):
                renewed = await self._store(subject, sequence)
                if renewed is None:
                    return  # taken over: this host was stopped for long; both builds count
                sequence = renewed

    async def _store(self, subject: str, after: int) -> int | None:
        """The new message's sequence; None if another one came after `after`."""
        try:
            ack = await self._bus.store(subject, _HELD, headers={_EXPECTED: str(after)}, once=True)
        except APIError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                return None
            raise
        return ack.seq
