"""Checks that no worker ends: nobody is there for them, or whoever was given one died at once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from keck import subjects
from keck.bus import Bus
from keck.messages import EvalDone, decode, encode
from keck.streams import MAX_DELIVER, ensure_target
from keck.subjects import CheckKey
from keck.testing import sample_compile_done, sample_request
from keck.verdict import Verdict
from keck_gateway import overdue


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are hundredths."""
    monkeypatch.setattr(overdue, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(overdue, "_GRACE_S", 0.05)


async def _until_decided(bus: Bus, key: CheckKey) -> EvalDone:
    found = None
    while found is None:
        found = await bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
    return decode(found[1], EvalDone)


async def _messages(bus: Bus, stream: str) -> int:
    count: int = (await bus.api(f"STREAM.INFO.{stream}", {}))["state"]["messages"]
    return count


async def _until_empty(bus: Bus, stream: str) -> None:
    while await _messages(bus, stream):
        pass


@pytest.mark.usefixtures("hasty")
async def test_a_check_nobody_serves_waits_visibly_and_expires(start_gateway: Any, bus: Bus):
    gateway = await start_gateway()
    for name, patience_s in (("short", 1.0), ("long", 60.0)):
        build = sample_compile_done(sample_request(check_id=name, deadline=time.time() + patience_s))
        subject = subjects.compile_done("sm999", "bulk", "default", name)
        await bus.publish(subject, build, msg_id=name)
    waiting = (await gateway.http.get("/v1/checks/long")).json()
    assert (waiting["state"], waiting["queue_position"]) == ("built", 1)
    done = await _until_decided(bus, CheckKey("default", "short", 0))
    assert (done.verdict, done.failure_kind) == (Verdict.DEADLINE_EXCEEDED, "deadline")
    assert "while it waited for a worker" in done.message
    assert done.durations_s.total >= 1.0
    while await _messages(bus, subjects.BUILDS) > 1:
        pass
    assert not await bus.is_decided(CheckKey("default", "long", 0))


@pytest.mark.usefixtures("hasty")
async def test_a_request_without_compilers_expires_also_if_it_came_before_the_gateway(
    start_gateway: Any, bus: Bus
):
    request = sample_request(check_id="old", deadline=time.time() - 5)
    await bus.publish(subjects.check_requested("bulk", "default", "old"), request, msg_id="old")
    await bus.store("check.requested.bulk.default.garbage", b"\x80")
    await start_gateway()
    done = await _until_decided(bus, CheckKey("default", "old", 0))
    assert done.verdict is Verdict.DEADLINE_EXCEEDED
    while await _messages(bus, subjects.CHECKS) > 1:
        pass


async def _killing_every_worker(bus: Bus, stream: str, consumer: str) -> None:
    """What a server sees of workers that die as soon as they are given a message, until it gives up."""
    pulled = await bus.js.pull_subscribe_bind(consumer, stream)
    for _ in range(MAX_DELIVER):
        (message,) = await pulled.fetch(1, timeout=5)
        await message.nak()
    with pytest.raises(TimeoutError):  # the advisory is sent when somebody asks again
        await pulled.fetch(1, timeout=0.5)


@pytest.mark.parametrize("stage", ["compile", "execute"])
async def test_a_message_that_ends_every_worker_is_buried_and_answered(
    start_gateway: Any, bus: Bus, stage: str
):
    await start_gateway()
    request = sample_request(check_id="poison")
    if stage == "compile":
        stream, consumer, event = subjects.CHECKS, subjects.compile_consumer("bulk"), request
        subject = subjects.check_requested("bulk", "default", "poison")
    else:
        await ensure_target(bus, "cpu")
        stream, consumer = subjects.BUILDS, subjects.execute_consumer("cpu", "bulk")
        event, subject = (
            sample_compile_done(request),
            subjects.compile_done("cpu", "bulk", "default", "poison"),
        )
    await bus.publish(subject, event, msg_id="poison")
    await _killing_every_worker(bus, stream, consumer)
    done = await _until_decided(bus, CheckKey("default", "poison", 0))
    assert (done.verdict, done.failure_kind, done.mask_sample) == (Verdict.INFRA_ERROR, "worker_lost", True)
    assert done.attempts == MAX_DELIVER
    await _until_empty(bus, stream)
    letter = await bus.js.get_msg("DEAD", subject=f"dead.{stage}.default.poison", direct=True)
    assert letter.data == encode(event)
    assert letter.headers is not None
    assert letter.headers["Keck-Subject"] == subject


async def test_bytes_that_end_every_worker_are_buried_and_answered(start_gateway: Any, bus: Bus):
    await start_gateway()
    await bus.store("check.requested.bulk.default.bytes", b"\x80")
    await _killing_every_worker(bus, subjects.CHECKS, subjects.compile_consumer("bulk"))
    done = await _until_decided(bus, CheckKey("default", "bytes", 0))
    assert (done.verdict, done.failure_kind) == (Verdict.INFRA_ERROR, "unreadable_message")
    await _until_empty(bus, subjects.CHECKS)
