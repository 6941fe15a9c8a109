"""What the live subscription misses is read from the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from keck import subjects
from keck.errors import QueueFull, Unavailable
from keck.messages import encode
from keck.subjects import CheckKey
from keck.testing import async_wait_until, sample_eval_done, sample_request
from keck_gateway.waiters import Waiters

KEY = CheckKey("default", "missed", 0)


@pytest.fixture
async def deaf(bus, monkeypatch) -> AsyncIterator[Waiters]:
    """Waiters that hear no verdict live, as if each were lost on the way."""
    monkeypatch.setattr(subjects, "LIVE_EVALS", "nobody.speaks.here")
    waiters = Waiters(bus, limit=2)
    async with waiters.listening():
        yield waiters


async def _wait(waiters, timeout_s):
    with waiters.place(KEY) as future:
        return await waiters.wait(KEY, future, timeout_s=timeout_s)


async def _store_behind_the_first_read(waiters, bus):
    """One connection answers in order: once this read is answered, the waiter's own is as well."""
    await asyncio.sleep(0)
    assert await waiters.stored(KEY) is None
    await bus.publish_terminal(sample_eval_done(sample_request(check_id="missed")))


async def test_a_missed_verdict_is_read_when_the_time_is_over(deaf, bus):
    waiting = asyncio.create_task(_wait(deaf, timeout_s=0.5))
    await _store_behind_the_first_read(deaf, bus)
    assert not waiting.done()
    assert (await waiting).verdict == "passed"


async def test_a_missed_verdict_is_read_after_a_reconnection(deaf, bus, nats_server):
    waiting = asyncio.create_task(_wait(deaf, timeout_s=50))
    await _store_behind_the_first_read(deaf, bus)
    await asyncio.to_thread(nats_server.restart)
    async with asyncio.timeout(20):
        assert (await waiting).verdict == "passed"


async def test_a_missed_verdict_is_read_sooner_or_later(deaf, bus, monkeypatch):
    monkeypatch.setattr("keck_gateway.waiters._SWEEP_EVERY_S", 0.5)
    waiting = asyncio.create_task(_wait(deaf, timeout_s=50))
    await _store_behind_the_first_read(deaf, bus)
    async with asyncio.timeout(20):
        assert (await waiting).verdict == "passed"


async def test_places_are_bounded_and_given_back(deaf):
    with deaf.place(KEY), deaf.place(KEY):
        assert deaf.count == 2
        with pytest.raises(QueueFull), deaf.place(KEY):
            pass
    assert deaf.count == 0
    with deaf.place(KEY):
        assert deaf.count == 1


async def test_while_the_bus_is_away_a_wait_ends_in_time(deaf, bus, nats_server, monkeypatch):
    monkeypatch.setattr("keck_gateway.waiters._LAST_LOOK_S", 0.2)
    await asyncio.to_thread(nats_server.kill)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="does not answer"):
            await _wait(deaf, timeout_s=0.2)
    await asyncio.to_thread(nats_server.start)
    await async_wait_until(lambda: bus.nc.is_connected, timeout_s=20)


async def test_another_checks_verdict_is_not_taken_for_this_ones(bus):
    """A reply subject can bring a verdict to where it does not belong, live or into the stream."""
    waiters = Waiters(bus, limit=2)
    theirs = sample_eval_done(sample_request(check_id="theirs"))
    async with waiters.listening():
        waiting = asyncio.create_task(_wait(waiters, timeout_s=20))
        await async_wait_until(lambda: waiters.count == 1)
        await bus.nc.publish(subjects.live_eval_done(KEY), encode(theirs))
        await bus.barrier()
        assert not waiting.done()
        await bus.publish_terminal(sample_eval_done(sample_request(check_id="missed")))
        assert (await waiting).check_id == "missed"

        other = CheckKey("default", "copied", 0)
        await bus.store(subjects.eval_done(other), encode(theirs))
        with waiters.place(other) as future, pytest.raises(Unavailable, match="cannot be read"):
            await waiters.wait(other, future, timeout_s=20)


async def test_a_copied_verdict_is_shown_to_nobody_as_a_checks_own(start_gateway, bus):
    gateway = await start_gateway()
    theirs = sample_eval_done(sample_request(check_id="theirs"))
    await bus.store(subjects.eval_done(CheckKey("default", "copied", 0)), encode(theirs))
    response = await gateway.http.get("/v1/checks/copied")
    assert response.status_code == 503
    assert "is that of" in response.json()["detail"]
