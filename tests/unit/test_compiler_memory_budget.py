"""Builds wait for memory, and never for ever."""

from __future__ import annotations

import asyncio

from keck.testing import async_wait_until
from keck_compiler.memory_budget import MemoryBudget, machine_memory_bytes


async def _run(budget: MemoryBudget, needed: int, running: set[str], name: str, go_on: asyncio.Event) -> None:
    async with budget.reserve(needed):
        running.add(name)
        await go_on.wait()
        running.discard(name)


async def test_builds_that_fit_together_run_together_and_the_next_waits_for_room() -> None:
    budget, running, go_on = MemoryBudget(100), set[str](), asyncio.Event()
    tasks = [asyncio.create_task(_run(budget, 40, running, name, go_on)) for name in "abc"]
    await async_wait_until(lambda: len(running) == 2)
    await asyncio.sleep(0.05)
    assert running == {"a", "b"}
    go_on.set()
    await asyncio.gather(*tasks)


async def test_one_that_wants_more_than_there_is_runs_alone() -> None:
    budget, running, go_on = MemoryBudget(100), set[str](), asyncio.Event()
    tasks = [asyncio.create_task(_run(budget, 500, running, name, go_on)) for name in "ab"]
    await async_wait_until(lambda: len(running) == 1)
    await asyncio.sleep(0.05)
    assert running == {"a"}
    go_on.set()
    await asyncio.gather(*tasks)


async def test_a_build_runs_where_the_machine_has_less_than_it_expects() -> None:
    async with asyncio.timeout(5), MemoryBudget(1 << 60).reserve(1 << 59):
        pass


async def test_one_that_is_cancelled_while_it_waits_takes_nothing() -> None:
    budget, running, go_on = MemoryBudget(100), set[str](), asyncio.Event()
    first = asyncio.create_task(_run(budget, 80, running, "a", go_on))
    await async_wait_until(lambda: len(running) == 1)
    second = asyncio.create_task(_run(budget, 80, running, "b", go_on))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    go_on.set()
    await first
    async with asyncio.timeout(5), budget.reserve(100):
        pass


def test_the_machines_memory_is_known() -> None:
    assert machine_memory_bytes() > 256 << 20
