"""A build is done once: for those who come later, and for those who come meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.errors import Retry
from keck.testing import async_wait_until
from keck_compiler.build_cache import BuildCache
from keck_compiler.builder import Built
from keck_compiler.outcome import Outcome

KEY = "a" * 64


class _Builds:
    """A build that waits for its cue and counts how often it was started."""

    def __init__(self, built: Built | Exception) -> None:
        self.started = 0
        self.cancelled = 0
        self.cue = asyncio.Event()
        self._built = built

    async def __call__(self) -> Built:
        self.started += 1
        try:
            await self.cue.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self._built, Exception):
            raise self._built
        return self._built


@pytest.fixture
def cache(bus: Bus) -> BuildCache:
    return BuildCache(bus, Artifacts(bus))


async def test_two_who_ask_at_once_share_one_build(cache: BuildCache) -> None:
    build = _Builds(Built(Outcome(cpu_s=1.0), b"module"))
    waiting = [asyncio.create_task(cache.get_or_build(KEY, build, timeout_s=9)) for _ in range(2)]
    await async_wait_until(lambda: build.started)
    build.cue.set()
    (first, first_there), (second, second_there) = await asyncio.gather(*waiting)
    assert build.started == 1
    assert first == second
    assert sorted([first_there, second_there]) == [False, True]


async def test_one_who_leaves_does_not_take_the_build_along(cache: BuildCache) -> None:
    build = _Builds(Built(Outcome(), b"module"))
    leaver, stayer = [asyncio.create_task(cache.get_or_build(KEY, build, timeout_s=9)) for _ in range(2)]
    await async_wait_until(lambda: build.started)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    build.cue.set()
    outcome, _ = await stayer
    assert (outcome.size, build.cancelled) == (6, 0)


async def test_another_compiler_finds_what_was_built_and_a_lost_artifact_is_built_again(
    bus: Bus, cache: BuildCache
) -> None:
    build = _Builds(Built(Outcome(), b"module"))
    build.cue.set()
    outcome, there = await cache.get_or_build(KEY, build, timeout_s=9)
    assert not there
    other = BuildCache(bus, Artifacts(bus))
    assert await other.get_or_build(KEY, build, timeout_s=9) == (outcome, True)
    await bus.js.purge_stream(f"OBJ_{subjects.ARTIFACTS_BUCKET}")
    assert await other.get_or_build(KEY, build, timeout_s=9) == (outcome, False)
    assert build.started == 2


async def test_a_refusal_is_remembered_and_a_failure_of_ours_is_not(cache: BuildCache) -> None:
    fails = _Builds(Retry("no disk"))
    fails.cue.set()
    for _ in range(2):
        with pytest.raises(Retry):
            await cache.get_or_build(KEY, fails, timeout_s=9)
    assert fails.started == 2
    refused = _Builds(Built(Outcome(message="no such thing"), b""))
    refused.cue.set()
    for expected_there in (False, True):
        outcome, there = await cache.get_or_build(KEY, refused, timeout_s=9)
        assert (outcome.built, outcome.message, there) == (False, "no such thing", expected_there)


async def test_closing_ends_builds_in_flight(cache: BuildCache) -> None:
    build = _Builds(Built(Outcome(), b"module"))
    waiting = asyncio.create_task(cache.get_or_build(KEY, build, timeout_s=9))
    await async_wait_until(lambda: build.started)
    await cache.close()
    assert build.cancelled == 1
    await asyncio.gather(waiting, return_exceptions=True)
