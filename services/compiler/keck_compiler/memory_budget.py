"""Builds wait for memory instead of taking each other's."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

__all__ = ["MemoryBudget", "machine_memory_bytes"]

_POLL_S = 0.5
_SHARE = 0.9
"""Of the machine's memory; the rest is the services' and the system's."""


class MemoryBudget:
    """What the builds of one compiler may take together.

    A build also waits while the machine itself has less free than it expects to need, because of other compilers on it
    for instance; but never with nothing of its own running, or it might wait for ever.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = max(1, total_bytes)
        self._taken = 0
        self._running = 0
        self._changed = asyncio.Condition()

    @classmethod
    def of_machine(cls) -> MemoryBudget:
        """As large as this machine or its container allows."""
        return cls(int(_SHARE * machine_memory_bytes()))

    @contextlib.asynccontextmanager
    async def reserve(self, needed_bytes: int) -> AsyncIterator[None]:
        """Wait for this much; who asks for more than there is at all gets all of it."""
        needed = min(needed_bytes, self._total)
        async with self._changed:
            while self._running and (self._taken + needed > self._total or _available_bytes() < needed):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _POLL_S)
            self._taken += needed
            self._running += 1
        try:
            yield
        finally:
            async with self._changed:
                self._taken -= needed
                self._running -= 1
                self._changed.notify_all()


def machine_memory_bytes() -> int:
    """Of this machine, or of the control group it is confined to."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with (
        contextlib.suppress(OSError, ValueError),
        open("/sys/fs/cgroup/memory.max", encoding="ascii") as file,
    ):
        return min(total, int(file.read()))
    return total


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0
