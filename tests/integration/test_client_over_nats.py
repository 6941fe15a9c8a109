"""The client on a real bus; a worker in the test plays compiler and executor in one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from keck import (
    CheckKey,
    CheckProgress,
    Client,
    DeadlineExceeded,
    EvalDone,
    QueueFull,
    Settings,
    SyncClient,
    Verdict,
    subjects,
)
from keck.bus import Bus
from keck.fleet import Beat
from keck.messages import CheckRequested, Heartbeat, decode
from keck.testing import NatsServer, async_wait_until, sample_eval_done, sample_request

SAMPLE = sample_request()
SOURCES = (SAMPLE.candidate, SAMPLE.reference)


@asynccontextmanager
async def a_worker(
    bus: Bus, *, before_verdict: asyncio.Event | None = None
) -> AsyncIterator[list[CheckRequested]]:
    """Answers every request it hears with progress and a verdict that passed."""
    heard: list[CheckRequested] = []
    answers: list[asyncio.Task[None]] = []

    async def answer(request: CheckRequested) -> None:
        progress = CheckProgress(
            check_id=request.check_id,
            run=request.run,
            generation=0,
            stage="compile",
            message="",
            at=time.time(),
        )
        await bus.publish_progress(progress)
        if before_verdict is not None:
            await before_verdict.wait()
        await bus.publish_terminal(sample_eval_done(request))

    async def requested(message: object) -> None:
        request = decode(message.data, CheckRequested)  # type: ignore[attr-defined]
        heard.append(request)
        answers.append(asyncio.create_task(answer(request)))

    subscription = await bus.subscribe("check.requested.>", requested)
    yield heard
    await subscription.unsubscribe()
    for task in answers:
        task.cancel()
    await asyncio.gather(*answers, return_exceptions=True)


@pytest.fixture
async def client(bus: Bus, nats_server: NatsServer) -> AsyncIterator[Client]:
    async with Client(nats_server.url, settings=Settings()) as connected:
        yield connected


async def test_a_check_comes_back_with_its_own_verdict(bus: Bus, client: Client) -> None:
    async with a_worker(bus) as heard:
        event = await client.check(*SOURCES, run="training", options={"device": "cpu"}, timeout_s=10)
    assert event.verdict is Verdict.PASSED
    assert (event.run, event.check_id) == ("training", heard[0].check_id)
    assert heard[0].lane == "interactive"
    assert heard[0].options.device == "cpu"


async def test_a_lint_is_a_check_of_the_reference_against_itself_and_never_timed(
    bus: Bus, nats_server: NatsServer, client: Client
) -> None:
    def lint() -> EvalDone:
        with SyncClient(nats_server.url, settings=Settings()) as blocking:
            return blocking.lint(SAMPLE.reference, options={"tolerance": "keck"}, timeout_s=10)

    async with a_worker(bus) as heard:
        await client.lint(SAMPLE.reference, run="tasks", options={"timed_calls": 50}, timeout_s=10)
        await asyncio.to_thread(lint)
    for request in heard:
        assert (request.kind, request.lane) == ("lint", "interactive")
        assert request.candidate == request.reference == SAMPLE.reference
        assert request.options.timed_calls == 0
    assert [request.run for request in heard] == ["tasks", "default"]
    assert heard[1].options.tolerance == "keck"


async def test_many_checks_at_once_each_get_their_own(bus: Bus, client: Client) -> None:
    ids = [f"many-{index}" for index in range(50)]
    async with a_worker(bus):
        events = await asyncio.gather(*(client.check(*SOURCES, check_id=name, timeout_s=20) for name in ids))
    assert [event.check_id for event in events] == ids


async def test_a_verdict_stored_before_anybody_waited_is_found(bus: Bus, client: Client) -> None:
    await bus.publish_terminal(sample_eval_done(sample_request(check_id="early")))
    event = await client.result(CheckKey("default", "early", 0), timeout_s=5)
    assert event.check_id == "early"


async def test_submitting_the_same_id_twice_is_one_check(bus: Bus, client: Client) -> None:
    first = await client.submit(*SOURCES, check_id="same")
    assert await client.submit(*SOURCES, check_id="same") == first
    queue = await bus.js.stream_info(subjects.CHECKS)
    assert queue.state.messages == 1


async def test_events_end_with_the_verdict_and_miss_no_stage(bus: Bus, client: Client) -> None:
    async with a_worker(bus):
        events = [event async for event in client.follow(*SOURCES)]
    assert [type(event) for event in events] == [CheckProgress, EvalDone]


async def test_events_of_a_decided_check_are_its_verdict(bus: Bus, client: Client) -> None:
    await bus.publish_terminal(sample_eval_done(sample_request(check_id="decided")))
    events = [event async for event in client.events(CheckKey("default", "decided", 0))]
    assert [type(event) for event in events] == [EvalDone]


async def test_patience_ends_with_an_error_that_leaves_the_check_alone(bus: Bus, client: Client) -> None:
    release = asyncio.Event()
    async with a_worker(bus, before_verdict=release):
        with pytest.raises(DeadlineExceeded, match=r"no verdict of slow within 0\.2 s"):
            await client.check(*SOURCES, check_id="slow", timeout_s=0.2)
        release.set()
        event = await client.result(CheckKey("default", "slow", 0), timeout_s=5)
    assert event.check_id == "slow"


async def test_one_waiter_giving_up_does_not_end_the_others(bus: Bus, client: Client) -> None:
    key = CheckKey("default", "shared", 0)
    patient = asyncio.create_task(client.result(key, timeout_s=10))
    with pytest.raises(DeadlineExceeded):
        await client.result(key, timeout_s=0.1)
    await bus.publish_terminal(sample_eval_done(sample_request(check_id="shared")))
    assert (await patient).check_id == "shared"


async def test_a_verdict_stored_while_disconnected_is_read_after_the_reconnection(
    bus: Bus, nats_server: NatsServer, client: Client
) -> None:
    key = CheckKey("default", "away", 0)
    waiting = asyncio.create_task(client.result(key, timeout_s=30))
    transport = client._transport
    await async_wait_until(lambda: key in transport._verdicts._waiting)  # type: ignore[attr-defined]
    await client._transport._bus.barrier()  # type: ignore[attr-defined]
    nats_server.restart()
    # Stored by the first to come back; the waiting client may still be away and then hears nothing live.
    assert await bus.publish_terminal(sample_eval_done(sample_request(check_id="away")))
    assert (await waiting).check_id == "away"


async def test_a_full_queue_is_said_so(bus: Bus, client: Client) -> None:
    config = (await bus.js.stream_info(subjects.CHECKS)).config
    config.max_msgs = 1
    await bus.js.update_stream(config)
    await client.submit(*SOURCES)
    with pytest.raises(QueueFull):
        await client.submit(*SOURCES)


async def test_executors_are_those_that_beat(bus: Bus, client: Client) -> None:
    now = time.time()
    heartbeat = Heartbeat(
        worker="gpu-0", role="executor", host="h", pid=1, version="0", started_at=now, at=now, slots=1, busy=0,
        target="sm90", arch="9.0",
    )  # fmt: skip
    await Beat(bus, lambda: heartbeat).now()
    await bus.nc.flush()
    assert [worker.worker for worker in await client.executors()] == ["gpu-0"]


async def test_the_sync_client_works_beside_a_running_loop(bus: Bus, nats_server: NatsServer) -> None:
    def judge() -> EvalDone:
        with SyncClient(nats_server.url, settings=Settings()) as client:
            return client.check(*SOURCES, timeout_s=10)

    async with a_worker(bus):
        assert (await asyncio.to_thread(judge)).verdict is Verdict.PASSED
