"""Where a check waits, how long that may take, and what it waits for in vain."""

from __future__ import annotations

from typing import Any

import pytest

from keck import subjects
from keck.bus import Bus
from keck.streams import ensure_target
from keck.testing import sample_compile_done, sample_request
from keck_gateway import queue_front
from keck_gateway.queue_front import QueueFront

CONSUMER = subjects.compile_consumer("bulk")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is asked of the server, and says something of speed."""
    monkeypatch.setattr(queue_front, "_FRESH_FOR_S", 0.0)
    monkeypatch.setattr(queue_front, "_LEAST_SPAN_S", 0.001)


async def _submit(bus: Bus, count: int) -> list[int]:
    return [
        await bus.publish(
            subjects.check_requested("bulk", "default", f"c{number}"),
            sample_request(check_id=f"c{number}"),
            msg_id=f"c{number}",
        )
        for number in range(count)
    ]


async def test_a_queue_that_moves_gives_an_estimate_and_one_that_stands_still_none(bus: Bus) -> None:
    sequences = await _submit(bus, 10)
    front = QueueFront(bus)
    for _ in range(3):
        place = await front.place(subjects.CHECKS, CONSUMER, sequences[9])
        assert place == (9, None)
    pulled = await bus.js.pull_subscribe_bind(CONSUMER, subjects.CHECKS)
    for message in await pulled.fetch(4, timeout=5):
        await message.ack_sync()
    place = await front.place(subjects.CHECKS, CONSUMER, sequences[9])
    assert place is not None
    assert place.before == 5
    assert place.estimate_s is not None
    nearer = await front.place(subjects.CHECKS, CONSUMER, sequences[4])
    assert nearer is not None
    assert nearer.estimate_s is not None
    assert 0 < nearer.estimate_s < place.estimate_s * 6
    assert await front.place(subjects.CHECKS, CONSUMER, sequences[3]) is None


async def test_what_was_served_long_ago_says_nothing_of_now(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = await _submit(bus, 5)
    front = QueueFront(bus)
    await front.place(subjects.CHECKS, CONSUMER, sequences[4])
    pulled = await bus.js.pull_subscribe_bind(CONSUMER, subjects.CHECKS)
    for message in await pulled.fetch(2, timeout=5):
        await message.ack_sync()
    monkeypatch.setattr(queue_front, "_LOOK_BACK_S", 0.0)
    place = await front.place(subjects.CHECKS, CONSUMER, sequences[4])
    assert place == (2, None)


async def test_a_check_says_what_it_waits_for_in_vain(
    start_gateway: Any, bus: Bus, beat: Any, make_heartbeat: Any
) -> None:
    gateway = await start_gateway()
    await _submit(bus, 1)
    build = sample_compile_done(sample_request(check_id="built"))
    await bus.publish(subjects.compile_done("sm90", "bulk", "default", "built"), build, msg_id="built")
    assert (await gateway.http.get("/v1/checks/c0")).json()["unserved"] == "compiler"
    # The build names the CPU; its subject is what the server goes by.
    assert (await gateway.http.get("/v1/checks/built")).json()["unserved"] == "cpu"
    await ensure_target(bus, "cpu")
    await beat(make_heartbeat("compiler"))
    await beat(make_heartbeat("executor", target="cpu"))
    await gateway.sees(executors=1)
    await gateway.until("/v1/checks/c0", lambda state: state["unserved"] is None)
    await gateway.until("/v1/checks/built", lambda state: state["unserved"] is None)


async def test_a_publisher_that_is_refused_is_told_when_to_come_back(start_gateway: Any, bus: Bus) -> None:
    gateway = await start_gateway()
    config = (await bus.api("STREAM.INFO.CHECKS", {}))["config"]
    await bus.api("STREAM.UPDATE.CHECKS", config | {"max_msgs": 2})
    for name in ("a", "b"):
        assert (await gateway.post(check_id=name)).status_code == 202
    refused = await gateway.post(check_id="c")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    pulled = await bus.js.pull_subscribe_bind(CONSUMER, subjects.CHECKS)
    (message,) = await pulled.fetch(1, timeout=5)
    await message.ack_sync()
    while (await gateway.post(check_id="c")).status_code == 429:
        pass  # HISTORY keeps a message in its queue until it has copied it
    refused = await gateway.post(check_id="d")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"] == 2


async def test_a_model_of_gpu_is_waited_for_and_served_by_who_has_it(
    start_gateway: Any, bus: Bus, beat: Any, make_heartbeat: Any
) -> None:
    gateway = await start_gateway()
    await beat(make_heartbeat("executor", target="sm90", worker="other", facts={"gpu": "NVIDIA H100 80GB"}))
    await gateway.sees(executors=1)
    refused = await gateway.post("/v1/checks?wait=5", options={"gpu": "H200"})
    assert refused.status_code == 503
    assert "gpu-h200" in refused.json()["detail"]
    assert (await gateway.post(options={"gpu": "H200"})).status_code == 202
    await beat(make_heartbeat("executor", target="sm90", worker="this", facts={"gpu": "NVIDIA H200"}))
    for target in ("gpu-h200", "sm90", "cuda-any"):
        consumer = subjects.execute_consumer(target, "bulk")
        while "error" in await bus.api(f"CONSUMER.INFO.BUILDS.{consumer}", {}):
            pass
