"""A build is done once: for those who come later, and for those who come meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.errors import ArtifactCorrupt, Retry
from keck.testing import async_wait_until
from keck_compiler.build_cache import BuildCache
from keck_compiler.build_claims import BuildClaims
from keck_compiler.built import Built
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


async def test_two_compilers_share_one_build(bus: Bus, cache: BuildCache) -> None:
    other = BuildCache(bus, Artifacts(bus))
    build = _Builds(Built(Outcome(cpu_s=1.0), b"module"))
    first = asyncio.create_task(cache.get_or_build(KEY, build, timeout_s=9))
    await async_wait_until(lambda: build.started)
    second = asyncio.create_task(other.get_or_build(KEY, build, timeout_s=9))
    await asyncio.sleep(0.3)  # it has looked, and waits
    assert (build.started, second.done()) == (1, False)
    build.cue.set()
    (outcome, there), (other_outcome, other_there) = await asyncio.gather(first, second)
    assert build.started == 1
    assert outcome == other_outcome
    assert (there, other_there) == (False, True)


async def test_a_build_that_fails_is_done_by_the_one_who_waited(bus: Bus, cache: BuildCache) -> None:
    fails, works = _Builds(Retry("no disk")), _Builds(Built(Outcome(), b"module"))
    works.cue.set()
    first = asyncio.create_task(cache.get_or_build(KEY, fails, timeout_s=9))
    await async_wait_until(lambda: fails.started)
    second = asyncio.create_task(BuildCache(bus, Artifacts(bus)).get_or_build(KEY, works, timeout_s=9))
    await asyncio.sleep(0.3)
    assert not works.started
    fails.cue.set()
    with pytest.raises(Retry):
        await first
    outcome, there = await second
    assert (outcome.size, there, works.started) == (6, False, 1)


async def test_the_claim_of_a_compiler_that_is_gone_is_taken_over(bus: Bus) -> None:
    subject = f"$KV.{subjects.BUILDS_INDEX_BUCKET}.claim.{KEY}"
    await bus.store(subject, b"held")  # by nobody who would renew it
    claims = BuildClaims(bus, stale_s=1.0)
    build = _Builds(Built(Outcome(), b"module"))
    build.cue.set()
    waiting = asyncio.create_task(
        BuildCache(bus, Artifacts(bus), claims=claims).get_or_build(KEY, build, timeout_s=9)
    )
    await asyncio.sleep(0.3)
    assert not build.started
    assert (await waiting)[1] is False
    assert build.started == 1


async def test_a_long_build_keeps_its_claim(bus: Bus) -> None:
    def cache() -> BuildCache:
        return BuildCache(bus, Artifacts(bus), claims=BuildClaims(bus, stale_s=0.6, renew_s=0.1))

    build = _Builds(Built(Outcome(), b"module"))
    first = asyncio.create_task(cache().get_or_build(KEY, build, timeout_s=9))
    await async_wait_until(lambda: build.started)
    second = asyncio.create_task(cache().get_or_build(KEY, build, timeout_s=9))
    await asyncio.sleep(2.0)
    build.cue.set()
    await asyncio.gather(first, second)
    assert build.started == 1


async def test_a_poisoned_artifact_is_found_out_and_replaced(bus: Bus, cache: BuildCache) -> None:
    module = b"module" * 1000
    build = _Builds(Built(Outcome(), module))
    build.cue.set()
    outcome, _ = await cache.get_or_build(KEY, build, timeout_s=9)
    await _poison(bus)
    artifacts = Artifacts(bus)
    with pytest.raises(ArtifactCorrupt):
        await artifacts.get(outcome.artifact)
    assert await cache.get_or_build(KEY, build, timeout_s=9) == (outcome, False)
    assert build.started == 2
    assert await artifacts.get(outcome.artifact) == module


async def _poison(bus: Bus) -> None:
    """Other bytes in the place of the only chunk in the store."""
    stream = f"OBJ_{subjects.ARTIFACTS_BUCKET}"
    info = await bus.js.stream_info(stream, subjects_filter=f"$O.{subjects.ARTIFACTS_BUCKET}.C.>")
    (subject,) = info.state.subjects or {}
    await bus.js.purge_stream(stream, subject=subject)
    await bus.store(subject, b"x" * 6000)


async def test_closing_ends_builds_in_flight(cache: BuildCache) -> None:
    build = _Builds(Built(Outcome(), b"module"))
    waiting = asyncio.create_task(cache.get_or_build(KEY, build, timeout_s=9))
    await async_wait_until(lambda: build.started)
    await cache.close()
    assert build.cancelled == 1
    await asyncio.gather(waiting, return_exceptions=True)
