"""Consumers for the kinds of executors that show up."""

from __future__ import annotations

import asyncio

from keck.bus import Bus
from keck.errors import Unavailable
from keck.fleet import Fleet
from keck.logs import logger
from keck.streams import ensure_target
from keck.targets import targets_of

__all__ = ["Targets"]

_LOOK_EVERY_S = 1.0


class Targets:
    """Sees to it that builds for every live kind of executor have consumers to be pulled from."""

    def __init__(self, bus: Bus, fleet: Fleet) -> None:
        self._bus = bus
        self._fleet = fleet
        self._ensured: set[str] = set()

    async def run(self) -> None:
        """Look at the fleet until cancelled."""
        while True:
            for target in sorted(self._wanted() - self._ensured):
                try:
                    await ensure_target(self._bus, target)
                except Unavailable as error:
                    logger().warning("target_not_ensured", target=target, error=str(error))
                else:
                    self._ensured.add(target)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _wanted(self) -> set[str]:
        return {
            target
            for worker in self._fleet.executors()
            if worker.target
            for target in targets_of(worker.target, worker.facts.get("gpu"))
        }
