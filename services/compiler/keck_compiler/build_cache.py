"""A repeated build is a look-up, and two requests for the same build wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.errors import ArtifactCorrupt, ArtifactMissing, KeckError
from keck.logs import logger
from keck_compiler.builder import Built
from keck_compiler.outcome import Outcome

__all__ = ["BuildCache"]

_decoder = msgspec.json.Decoder(Outcome)


class BuildCache:
    """Outcomes by build key, in the bus's ``builds`` bucket; modules in its object store."""

    def __init__(self, bus: Bus, artifacts: Artifacts) -> None:
        self._bus = bus
        self._artifacts = artifacts
        self._in_flight: dict[tuple[str, float], asyncio.Task[Outcome]] = {}

    async def get_or_build(
        self, key: str, build: Callable[[], Awaitable[Built]], *, timeout_s: float
    ) -> tuple[Outcome, bool]:
        """The outcome, and whether it was there already (or being built for somebody else)."""
        known = await self._look_up(key)
        if known is not None:
            return known, True
        # Callers with less patience are not made to share the fate of others, nor others theirs.
        flight = (key, timeout_s)
        task = self._in_flight.get(flight)
        joined = task is not None
        if task is None:
            task = asyncio.create_task(self._build_and_store(key, build), name="build")
            self._in_flight[flight] = task
            task.add_done_callback(lambda done: self._landed(flight, done))
        # Shielded: one waiter that is cancelled must not take the build from the others.
        return await asyncio.shield(task), joined

    async def close(self) -> None:
        """Cancel builds nobody waits for any more, and wait until their cells are gone."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, flight: tuple[str, float], task: asyncio.Task[Outcome]) -> None:
        self._in_flight.pop(flight, None)
        if not task.cancelled():
            task.exception()  # retrieved, also where every waiter has gone

    async def _look_up(self, key: str) -> Outcome | None:
        stored = await self._bus.last_by_subject(
            f"KV_{subjects.BUILDS_INDEX_BUCKET}", f"$KV.{subjects.BUILDS_INDEX_BUCKET}.{key}"
        )
        if stored is None:
            return None
        try:
            outcome = _decoder.decode(stored[1])
            if outcome.built:
                # Artifacts may be dropped for space before the index forgets them; and one that is near
                # its expiry is stored anew by `put`, so that it lasts until it is judged.
                await self._artifacts.put(await self._artifacts.get(outcome.artifact))
        except (msgspec.DecodeError, msgspec.ValidationError, ArtifactMissing, ArtifactCorrupt) as error:
            logger().warning("cached_build_unusable", key=key, error=str(error))
            return None
        return outcome

    async def _build_and_store(self, key: str, build: Callable[[], Awaitable[Built]]) -> Outcome:
        built = await build()
        outcome = built.outcome
        if built.module:
            name = await self._artifacts.put(built.module)
            outcome = msgspec.structs.replace(outcome, artifact=name, size=len(built.module))
        try:
            await self._bus.store(f"$KV.{subjects.BUILDS_INDEX_BUCKET}.{key}", msgspec.json.encode(outcome))
        except KeckError as error:
            # The artifact is stored; only the next look-up is lost.
            logger().warning("build_not_indexed", key=key, error=str(error))
        return outcome
