"""A repeated build is a look-up, and requests for the same build wait for one, whichever compilers have them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.errors import ArtifactCorrupt, ArtifactMissing, KeckError
from keck.hashing import sha256_hex
from keck.logs import logger
from keck_compiler.build_claims import BuildClaims
from keck_compiler.built import Built
from keck_compiler.outcome import Outcome

__all__ = ["BuildCache"]

_decoder = msgspec.json.Decoder(Outcome)


@dataclass(slots=True)
class _Flight:
    """A build under way, and how many wait for it."""

    task: asyncio.Task[tuple[Outcome, bool]]
    waiters: int = 0


class BuildCache:
    """Outcomes by build key, in the bus's ``builds`` bucket; modules in its object store."""

    def __init__(
        self,
        bus: Bus,
        artifacts: Artifacts,
        *,
        claims: BuildClaims | None = None,
        trusts_fast: Callable[[], bool] = lambda: True,
    ) -> None:
        self._bus = bus
        self._trusts_fast = trusts_fast
        self._artifacts = artifacts
        self._claims = claims or BuildClaims(bus)
        self._unusable: set[str] = set()
        """Artifacts that were found missing or changed, and not stored anew since."""
        self._in_flight: dict[tuple[str, float], _Flight] = {}

    async def get_or_build(
        self, key: str, build: Callable[[], Awaitable[Built]], *, timeout_s: float
    ) -> tuple[Outcome, bool]:
        """The outcome, and whether it was there already (or being built for somebody else)."""
        known = await self._look_up(key)
        if known is not None:
            return known, True
        # Callers with less patience are not made to share the fate of others, nor others theirs.
        name = (key, timeout_s)
        flight = self._in_flight.get(name)
        joined = flight is not None
        if flight is None:
            task = asyncio.create_task(self._build_and_store(key, build), name="build")
            flight = self._in_flight[name] = _Flight(task)
        flight.waiters += 1
        try:
            # Shielded: one waiter that is cancelled must not take the build from the others.
            outcome, was_there = await asyncio.shield(flight.task)
            return outcome, joined or was_there
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                await self._land(name, flight)

    async def close(self) -> None:
        """Cancel builds nobody waits for any more, and wait until their cells are gone."""
        for name, flight in list(self._in_flight.items()):
            await self._land(name, flight)

    async def _land(self, name: tuple[str, float], flight: _Flight) -> None:
        """Nobody waits for it any more: a build that still runs is ended, and its cell gone on return."""
        if self._in_flight.get(name) is flight:
            del self._in_flight[name]  # first of all, so that nobody joins what is being ended
        flight.task.cancel()
        await asyncio.gather(flight.task, return_exceptions=True)

    async def _look_up(self, key: str) -> Outcome | None:
        stored = await self._bus.last_by_subject(
            f"KV_{subjects.BUILDS_INDEX_BUCKET}", f"$KV.{subjects.BUILDS_INDEX_BUCKET}.{key}"
        )
        if stored is None:
            return None
        try:
            outcome = _decoder.decode(stored[1])
            if outcome.recipe == "fast" and not self._trusts_fast():
                return None
            if outcome.built:
                # Artifacts may be dropped for space before the index forgets them; and one that is near
                # its expiry is stored anew by `put`, so that it lasts until it is judged.
                await self._artifacts.put(await self._artifacts.get(outcome.artifact))
        except (ArtifactMissing, ArtifactCorrupt) as error:
            # Its entry may look sound: what is built now replaces it.
            logger().warning("cached_build_unusable", key=key, error=str(error))
            self._unusable.add(outcome.artifact)
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            logger().warning("cached_build_unusable", key=key, error=str(error))
            return None
        return outcome

    async def _build_and_store(self, key: str, build: Callable[[], Awaitable[Built]]) -> tuple[Outcome, bool]:
        known: list[Outcome] = []

        async def is_done() -> bool:
            outcome = await self._look_up(key)
            known[:] = [outcome] if outcome is not None else []
            return outcome is not None

        async with self._claims.hold(key, is_done) as ours:
            if not ours:
                return known[0], True
            return await self._store(key, await build()), False

    async def _store(self, key: str, built: Built) -> Outcome:
        outcome = built.outcome
        if built.module:
            name = await self._artifacts.put(built.module, anew=sha256_hex(built.module) in self._unusable)
            self._unusable.discard(name)
            outcome = msgspec.structs.replace(outcome, artifact=name, size=len(built.module))
        try:
            await self._bus.store(f"$KV.{subjects.BUILDS_INDEX_BUCKET}.{key}", msgspec.json.encode(outcome))
        except KeckError as error:
            # The artifact is stored; only the next look-up is lost.
            logger().warning("build_not_indexed", key=key, error=str(error))
        return outcome
