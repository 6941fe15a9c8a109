"""A gateway on a real bus and a real port, and a worker that stands in for compilers and executors."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from keck import subjects
from keck.bus import Bus
from keck.consumer import Consumer
from keck.fleet import Beat
from keck.hashing import sha256_hex
from keck.messages import CheckProgress, CheckRequested, EvalDone, Hashes, Heartbeat, Profile, verdict_of
from keck.settings import Settings
from keck.testing import NatsServer, sample_eval_done
from keck.verdict import Verdict
from keck_gateway.server import bind, url_of
from keck_gateway.service import serve

CANDIDATE = "class ModelNew: ...\n"
REFERENCE = "class Model: ...\n"


class Worker:
    """Judges as the candidate's first line says: ``#!wrong_result``, ``#!hold`` (until `release`), nothing: passed."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.seen: list[CheckRequested] = []
        self.released = asyncio.Event()
        self._consumer = Consumer(
            bus,
            stream=subjects.CHECKS,
            consumers=[subjects.compile_consumer(lane) for lane in subjects.LANES],
            expect=CheckRequested,
            slots=512,
            handle=self._judge,
            on_exhausted=self._give_up,
        )

    async def run(self) -> None:
        await self._consumer.run()

    @property
    def busy(self) -> int:
        return self._consumer.busy

    def release(self) -> None:
        self.released.set()

    async def _judge(self, request: CheckRequested, attempt: int) -> None:
        self.seen.append(request)
        said = re.match(r"#!(\w+)", request.candidate)
        if said and said[1] == "hold":
            await self.released.wait()
        await self.bus.publish_progress(
            CheckProgress(
                check_id=request.check_id,
                run=request.run,
                generation=request.generation,
                stage="compile",
                message="building",
                at=time.time(),
            )
        )
        await self.bus.publish_terminal(verdict_for(request, said[1] if said else ""))

    async def _give_up(self, request: CheckRequested, reason: str, kind: str, attempts: int) -> None:
        raise AssertionError(f"the worker gave up: {reason}")


def verdict_for(request: CheckRequested, said: str) -> EvalDone:
    if said in ("", "hold"):
        profile = Profile(torch="torch table", cuda="cuda table") if request.options.profile else None
        hashes = Hashes(
            candidate=sha256_hex(request.candidate), reference=sha256_hex(request.reference), artifact=""
        )
        return sample_eval_done(request, profile=profile, hashes=hashes)
    verdict = Verdict(said)
    return verdict_of(
        request,
        verdict,
        stage="correctness",
        message=f"this is {verdict}",
        log="head of the log\n" + "x" * 9000 + "\nlast line of the log",
        failure_kind="worker_lost" if verdict is Verdict.INFRA_ERROR else "",
    )


def heartbeat(role: str, *, target: str = "", **changes: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "worker": f"{role}-{target or 'one'}",
        "role": role,
        "host": "here",
        "pid": 1,
        "version": "0",
        "started_at": time.time(),
        "at": time.time(),
        "slots": 4,
        "busy": 0,
        "cpus": 8,
        "target": target,
    }
    return Heartbeat(**(fields | changes))


class Gateway:
    """One gateway in this process, with its own connection to the bus."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self.settings = settings
        self.url = url_of(bound)
        self.stop = asyncio.Event()
        self.http = httpx.AsyncClient(
            base_url=self.url,
            timeout=60,
            limits=httpx.Limits(max_connections=None),
            headers={"Authorization": f"Bearer {settings.token}"} if settings.token else {},
        )
        self._bound = bound

    async def run(self, nats_url: str) -> None:
        async with await Bus.connect(nats_url, name="gateway") as bus:
            await serve(bus, self.stop, settings=self.settings, bound=self._bound)

    async def until(self, path: str, predicate: Callable[[Any], bool]) -> Any:
        """What the path answers, once that satisfies the predicate."""
        async with asyncio.timeout(10):
            while not predicate(answer := (await self.http.get(path)).json()):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
        return answer

    async def sees(self, executors: int) -> None:
        """Wait until this gateway knows that many executors."""
        await self.until("/v1/executors", lambda known: len(known) == executors)

    async def post(self, path: str = "/v1/checks", **body: Any) -> httpx.Response:
        """A check as JSON; both sources are filled in."""
        return await self.http.post(path, json={"candidate": CANDIDATE, "reference": REFERENCE} | body)


StartGateway = Callable[..., Awaitable[Gateway]]


@asynccontextmanager
async def running_gateway(nats_url: str, settings: Settings) -> AsyncIterator[Gateway]:
    gateway = Gateway(settings, bind(settings.http_host, 0))
    task = asyncio.create_task(gateway.run(nats_url))
    try:
        await _answers(gateway, task)
        yield gateway
    finally:
        await gateway.http.aclose()
        gateway.stop.set()
        await task


async def _answers(gateway: Gateway, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        while True:
            if task.done():
                task.result()
            try:
                await gateway.http.get("/healthz")
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


@pytest.fixture
async def start_gateway(nats_server: NatsServer, bus: Bus) -> AsyncIterator[StartGateway]:
    """Starts gateways with changed settings; stops them all at the end."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Gateway:
            settings = Settings(nats_url=nats_server.url, **changes)
            return await stack.enter_async_context(running_gateway(nats_server.url, settings))

        yield start


@pytest.fixture
def make_heartbeat() -> Callable[..., Heartbeat]:
    """Heartbeats of workers that are not there."""
    return heartbeat


@pytest.fixture
async def beat(bus: Bus) -> AsyncIterator[Callable[[Heartbeat], Awaitable[None]]]:
    """Keeps workers alive on the bus until the test ends."""
    tasks: list[asyncio.Task[None]] = []

    async def start(of: Heartbeat) -> None:
        tasks.append(asyncio.create_task(Beat(bus, lambda: of).run()))

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def make_worker(
    bus: Bus, beat: Callable[[Heartbeat], Awaitable[None]]
) -> AsyncIterator[Callable[[], Awaitable[Worker]]]:
    """Puts a worker on the bus, with the heartbeats of a compiler and of a CPU executor."""
    tasks: list[asyncio.Task[None]] = []

    async def make() -> Worker:
        one = Worker(bus)
        tasks.append(asyncio.create_task(one.run()))
        await beat(heartbeat("compiler"))
        await beat(heartbeat("executor", target="cpu"))
        return one

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def worker(make_worker: Callable[[], Awaitable[Worker]]) -> Worker:
    """A worker that is there from the start."""
    return await make_worker()


@pytest.fixture
async def gateway(start_gateway: StartGateway, worker: Worker) -> Gateway:
    """A gateway that knows of one CPU executor."""
    started = await start_gateway()
    await started.sees(executors=1)
    return started
