"""Who is alive, as seen through heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keck import fleet as fleet_module
from keck.bus import Bus
from keck.fleet import Beat, Fleet
from keck.messages import Heartbeat
from keck.testing import NatsServer


def _heartbeat(worker: str = "w1", **changes: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "worker": worker, "role": "executor", "host": "h", "pid": 1, "version": "0", "started_at": 0.0,
        "at": time.time(), "slots": 1, "busy": 0, "target": "cpu",
    } | changes  # fmt: skip
    return Heartbeat(**fields)


@contextlib.asynccontextmanager
async def _beating(bus: Bus, worker: str = "w1", **changes: Any) -> AsyncIterator[None]:
    beat = asyncio.create_task(Beat(bus, lambda: _heartbeat(worker, **changes), every_s=0.05).run())
    try:
        yield
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)


@pytest.fixture
async def fleet(bus: Bus) -> AsyncIterator[Fleet]:
    fleet = Fleet(bus)
    await fleet.start()
    yield fleet
    await fleet.stop()


async def test_a_worker_appears_with_its_first_beat_and_goes_with_its_farewell(
    bus: Bus, fleet: Fleet
) -> None:
    assert fleet.live() == []
    async with _beating(bus):
        assert await fleet.wait_for(lambda f: len(f.live()) == 1, 3)
    assert await fleet.wait_for(lambda f: not f.live(), 3)


async def test_a_worker_there_before_is_known_at_once(bus: Bus) -> None:
    await Beat(bus, _heartbeat).now()
    await bus.barrier()
    fleet = Fleet(bus)
    await fleet.start()
    assert [worker.worker for worker in fleet.live()] == ["w1"]
    await fleet.stop()


async def test_an_old_entry_does_not_count_as_alive(bus: Bus) -> None:
    await Beat(bus, lambda: _heartbeat(at=time.time() - 30)).now()
    await bus.barrier()
    fleet = Fleet(bus)
    await fleet.start()
    assert fleet.live() == []
    await fleet.stop()


async def test_a_worker_that_falls_silent_grows_old(
    bus: Bus, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Beat(bus, _heartbeat).now()
    assert await fleet.wait_for(lambda f: len(f.live()) == 1, 3)
    monkeypatch.setattr(fleet_module, "LIVE_FOR_S", 0.1)
    assert await fleet.wait_for(lambda f: not f.live(), 3)


async def test_a_clock_that_runs_behind_does_not_make_a_live_worker_dead(bus: Bus, fleet: Fleet) -> None:
    async with _beating(bus, at=time.time() - 3600):
        assert await fleet.wait_for(lambda f: len(f.live()) == 1, 3)


@pytest.mark.parametrize(
    ("worker", "target", "served"),
    [
        ({"target": "sm90"}, "sm90", True),
        ({"target": "sm90"}, "cuda-any", True),
        ({"target": "sm90"}, "sm80", False),
        ({"target": "cpu"}, "cuda-any", False),
        ({"target": "sm90", "state": "quarantined"}, "sm90", False),
        ({"target": "sm90", "state": "draining"}, "cuda-any", False),
        ({"target": "sm90", "role": "compiler"}, "sm90", False),
    ],
)
async def test_a_target_is_served_by_an_executor_that_takes_work(
    bus: Bus, fleet: Fleet, worker: dict[str, str], target: str, served: bool
) -> None:
    await Beat(bus, lambda: _heartbeat(**worker)).now()
    assert await fleet.wait_for(lambda f: len(f.live()) == 1, 3)
    assert fleet.has_target(target) is served


async def test_roles_are_told_apart(bus: Bus, fleet: Fleet) -> None:
    await Beat(bus, lambda: _heartbeat("a", role="gateway", facts={"url": "http://127.0.0.1:1"})).now()
    await Beat(bus, lambda: _heartbeat("b")).now()
    assert await fleet.wait_for(lambda f: len(f.live()) == 2, 3)
    assert [worker.worker for worker in fleet.executors()] == ["b"]
    assert fleet.live("gateway")[0].facts == {"url": "http://127.0.0.1:1"}


async def test_waiting_in_vain_ends_in_time(fleet: Fleet) -> None:
    assert not await fleet.wait_for(lambda f: bool(f.live()), 0.05)


async def test_bytes_that_are_no_heartbeat_are_passed_over(bus: Bus, fleet: Fleet) -> None:
    await bus.nc.publish("$KV.workers.odd", b"\xff\xff")
    await Beat(bus, _heartbeat).now()
    assert await fleet.wait_for(lambda f: [w.worker for w in f.live()] == ["w1"], 3)


async def test_beats_go_on_after_a_restart_of_the_server(
    nats_server: NatsServer, bus: Bus, fleet: Fleet
) -> None:
    async with _beating(bus):
        assert await fleet.wait_for(lambda f: len(f.live()) == 1, 3)
        await asyncio.to_thread(nats_server.restart)
        since = time.time()
        assert await fleet.wait_for(lambda f: any(worker.at > since for worker in f.live()), 10)
