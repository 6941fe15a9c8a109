"""The client against the real gateway; a worker in the test plays compiler and executor in one."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from keck import (
    BadRequest,
    CheckKey,
    CheckProgress,
    Client,
    EvalDone,
    NotFound,
    Settings,
    SyncClient,
    Unavailable,
    Verdict,
)
from keck.bus import Bus
from keck.fleet import Beat, Fleet
from keck.messages import CheckRequested, Heartbeat, decode
from keck.streams import provision
from keck.testing import NatsServer, sample_eval_done, sample_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = sample_request()
SOURCES = (SAMPLE.candidate, SAMPLE.reference)
SETTINGS = Settings()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        async with await Bus.connect(server.url, name="test") as connected:
            await provision(connected, storage="embedded")
            yield connected


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(bus: Bus, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A gateway in a process of its own, found by its heartbeat."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    environ = os.environ | {
        "KECK_NATS_URL": bus.nc.connected_url.geturl() if bus.nc.connected_url else "",
        "KECK_HTTP_PORT": "0",
        "KECK_STATE_DIR": str(log.parent),
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "keck_gateway", env=environ, stdout=output, stderr=output
        )
    fleet = Fleet(bus)
    await fleet.start()
    try:
        assert await fleet.wait_for(lambda view: bool(view.live("gateway")), 30), log.read_text()
        yield str(fleet.live("gateway")[0].facts["url"])
    finally:
        await fleet.stop()
        process.terminate()
        await process.wait()


@asynccontextmanager
async def a_worker(bus: Bus, *, release: asyncio.Event | None = None) -> AsyncIterator[None]:
    """An executor that beats, and answers to every request."""
    now = time.time()
    heartbeat = Heartbeat(
        worker="cpu-0", role="executor", host="h", pid=1, version="0", started_at=now, at=now, slots=1, busy=0,
        target="cpu",
    )  # fmt: skip
    answers: list[asyncio.Task[None]] = []

    async def answer(request: CheckRequested) -> None:
        if release is not None:
            await release.wait()
        await bus.publish_progress(
            CheckProgress(
                check_id=request.check_id, run=request.run, generation=0, stage="timing", message="", at=now
            )
        )
        await bus.publish_terminal(sample_eval_done(request))

    async def requested(message: Msg) -> None:
        answers.append(asyncio.create_task(answer(decode(message.data, CheckRequested))))

    subscription = await bus.subscribe("check.requested.>", requested)
    beating = asyncio.create_task(Beat(bus, lambda: heartbeat, every_s=0.2).run())
    yield
    await subscription.unsubscribe()
    for task in (beating, *answers):
        task.cancel()
    await asyncio.gather(beating, *answers, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, settings=SETTINGS) as connected:
        yield connected


async def _executor_seen(client: Client) -> None:
    await _eventually(client.executors)


async def _eventually(ask: Callable[[], Awaitable[object]]) -> None:
    deadline = time.monotonic() + 10
    while not await ask():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_check_comes_back_with_its_own_verdict(bus: Bus, client: Client) -> None:
    async with a_worker(bus):
        await _executor_seen(client)
        events = await asyncio.gather(
            *(client.check(*SOURCES, check_id=f"http-{n}", run="web", timeout_s=20) for n in range(10))
        )
    assert [event.check_id for event in events] == [f"http-{n}" for n in range(10)]
    assert {(event.run, event.verdict) for event in events} == {("web", Verdict.PASSED)}


async def test_events_tell_the_stages_and_end_with_the_verdict(bus: Bus, client: Client) -> None:
    release = asyncio.Event()
    async with a_worker(bus, release=release):
        events = []
        async for event in client.follow(*SOURCES, check_id="followed", options={"device": "cpu"}):
            events.append(event)
            release.set()
    assert isinstance(events[-1], EvalDone)
    assert all(isinstance(event, CheckProgress) for event in events[:-1])
    assert events[0].stage == "queued"


async def test_a_verdict_that_is_there_already_is_answered(bus: Bus, client: Client) -> None:
    await bus.publish_terminal(sample_eval_done(sample_request(check_id="stored")))
    assert (await client.result(CheckKey("default", "stored", 0), timeout_s=5)).check_id == "stored"


async def test_a_check_nobody_submitted_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="no check nowhere in run default"):
        await client.result(CheckKey("default", "nowhere", 0), timeout_s=5)


async def test_the_gateways_words_reach_the_caller(url: str) -> None:
    async with Client(url, settings=SETTINGS) as client:
        await client.submit(*SOURCES, check_id="taken")
        with pytest.raises(BadRequest, match="taken"):
            await client.submit(SOURCES[0] + "\n# another\n", SOURCES[1], check_id="taken")


async def test_a_waiting_check_without_an_executor_is_unavailable(client: Client) -> None:
    await _eventually(lambda: _nobody(client))
    with pytest.raises(Unavailable, match="executor"):
        await client.check(*SOURCES, options={"device": "cuda"}, timeout_s=10)


async def _nobody(client: Client) -> bool:
    return not await client.executors()


async def test_the_sync_client_speaks_http_too(url: str) -> None:
    def judge() -> CheckKey:
        with SyncClient(url, settings=SETTINGS) as client:
            return client.submit(*SOURCES, check_id="sync", run="threads")

    assert await asyncio.to_thread(judge) == CheckKey("threads", "sync", 0)


async def test_a_gateway_that_is_not_there_is_unavailable_and_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keck._transport._http._PAUSES_S", (0.01,))
    async with Client("http://127.0.0.1:9", settings=SETTINGS) as client:
        with pytest.raises(Unavailable, match=r"no gateway answers at http://127\.0\.0\.1:9"):
            await client.executors()


async def test_an_event_stream_that_breaks_is_taken_up_again() -> None:
    """Two answers: one that ends without a verdict, and the verdict."""
    verdict = sample_eval_done(sample_request(check_id="cut"))
    answers = [": closing\n\n", _sse(verdict)]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=answers.pop(0))

    client = Client("http://gateway", settings=SETTINGS)
    client._transport._http = httpx.AsyncClient(  # type: ignore[attr-defined]
        transport=httpx.MockTransport(answer), base_url="http://gateway"
    )
    async with client:
        events = [event async for event in client.events(CheckKey("default", "cut", 0))]
    assert events == [verdict]


def _sse(event: EvalDone) -> str:
    import msgspec

    return f"event: verdict\ndata: {msgspec.json.encode(event).decode()}\n\n"
