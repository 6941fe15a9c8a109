"""What one executor consists of besides its work: a device, a judge, runners kept ready, and the word on its health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from keck.settings import Settings
from keck_executor.judge_process import JudgeProcess
from keck_executor.placement import Placement
from keck_executor.quarantine import Quarantine
from keck_executor.residue import memory_between_processes
from keck_executor.runner_pool import RunnerPool
from keck_sandbox import become_subreaper

__all__ = ["Station", "open_station"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """All that a check needs on one device."""

    settings: Settings
    placement: Placement
    judge: JudgeProcess
    pool: RunnerPool
    quarantine: Quarantine
    memory_left: str
    """What a process finds of another's in the device's memory (:mod:`keck_executor.residue`)."""

    @property
    def facts(self) -> dict[str, str | float | None]:
        """Of the device: what heartbeats and verdicts show."""
        if self.placement.kind == "cpu":
            return self.judge.facts
        return {**self.judge.facts, "memory_between_processes": self.memory_left}


@asynccontextmanager
async def open_station(settings: Settings, placement: Placement, directory: Path) -> AsyncIterator[Station]:
    """A station with its judge up and its spares on their way; everything is ended on the way out.

    Args:
        directory: for the directories of its cells.

    Raises:
        Unavailable: the judge does not come up on this device.
    """
    become_subreaper()
    quarantine = Quarantine()
    judge = JudgeProcess(placement, directory, quarantine)
    pool = RunnerPool(settings, placement, directory, quarantine)
    try:
        left, *_ = await asyncio.gather(
            memory_between_processes(placement, directory), judge.start(), pool.refill()
        )
        yield Station(
            settings=settings,
            placement=placement,
            judge=judge,
            pool=pool,
            quarantine=quarantine,
            memory_left=left,
        )
    finally:
        await pool.close()
        await judge.stop()
        quarantine.close()
