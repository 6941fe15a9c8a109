"""What the bus itself costs a check: real server and workers' loop, stages that do nothing, each in a process of its own.

python tests/benchmarks/bus.py [--checks 2000] [--sync 1s]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from keck import Client, subjects
from keck.bus import Bus
from keck.consumer import Consumer
from keck.messages import CheckRequested, CompileDone, Options
from keck.settings import Settings
from keck.streams import ensure_target, provision
from keck.subjects import CheckKey
from keck.testing import NatsServer, sample_compile_done, sample_eval_done

_SLOTS = 64
_IN_FLIGHT = (1, 100, 2_000)
_SOURCE = "# " + "x" * 2_000 + "\n"
_VERDICT = sample_eval_done()


async def compile_nothing(url: str) -> None:
    """A compiler whose builds are there at once."""
    async with await Bus.connect(url, name="compiler") as bus:

        async def handle(request: CheckRequested, attempt: int) -> None:
            key = CheckKey(request.run, request.check_id, request.generation)
            subject = subjects.compile_done("cpu", request.lane, request.run, request.check_id)
            await bus.publish(subject, sample_compile_done(request), msg_id=subjects.build_id(key))

        names = [subjects.compile_consumer(lane) for lane in subjects.LANES]
        await Consumer(
            bus,
            stream=subjects.CHECKS,
            consumers=names,
            expect=CheckRequested,
            slots=_SLOTS,
            handle=handle,
            on_exhausted=_given_up,
        ).run()


async def judge_nothing(url: str) -> None:
    """An executor that likes everything."""
    async with await Bus.connect(url, name="executor") as bus:

        async def handle(build: CompileDone, attempt: int) -> None:
            await bus.publish_terminal(
                msgspec.structs.replace(_VERDICT, run=build.run, check_id=build.check_id, generation=0)
            )

        names = [subjects.execute_consumer("cpu", lane) for lane in subjects.LANES]
        await Consumer(
            bus,
            stream=subjects.BUILDS,
            consumers=names,
            expect=CompileDone,
            slots=_SLOTS,
            handle=handle,
            on_exhausted=_given_up,
        ).run()


async def _given_up(event: CheckRequested | CompileDone, reason: str, kind: str, attempts: int) -> None:
    raise AssertionError(f"a stub gave up: {reason}")


@asynccontextmanager
async def _stage(name: str, url: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, "--stage", name, "--url", url)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def measure(checks: int, sync: str) -> None:
    """Closed loops of so many checks in flight, through both stages."""
    with tempfile.TemporaryDirectory() as directory, NatsServer(Path(directory), sync=sync) as server:
        async with await Bus.connect(server.url, name="bench") as bus:
            await provision(bus, storage="embedded")
            await ensure_target(bus, "cpu")
        async with (
            _stage("compile", server.url),
            _stage("judge", server.url),
            Client(server.url, settings=Settings()) as client,
        ):
            await _loop(client, count=50, in_flight=10)  # everything is up and warm
            for in_flight in _IN_FLIGHT:
                count = min(checks, 300) if in_flight == 1 else max(checks, 2 * in_flight)
                waits, wall_s = await _loop(client, count=count, in_flight=in_flight)
                _tell(sync, in_flight, waits, wall_s)


async def _loop(client: Client, *, count: int, in_flight: int) -> tuple[Sequence[float], float]:
    """Seconds each check took, sorted, and all of them together."""
    waits: list[float] = []
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            began = time.monotonic()
            key = await client.submit(_SOURCE, _SOURCE, run="bench", options=Options(device="cpu"))
            await client.result(key)
            waits.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return sorted(waits), time.monotonic() - began


def _tell(sync: str, in_flight: int, waits: Sequence[float], wall_s: float) -> None:
    told = {
        "sync_interval": sync or "default",
        "in_flight": in_flight,
        "checks": len(waits),
        "per_s": round(len(waits) / wall_s),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure, or be one of the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=4_000)
    parser.add_argument("--sync", default="", help="sync_interval of the server: 1s, always, or its default")
    parser.add_argument("--stage", choices=["compile", "judge"], help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        asyncio.run((compile_nothing if given.stage == "compile" else judge_nothing)(given.url))
    else:
        asyncio.run(measure(given.checks, given.sync))


if __name__ == "__main__":
    main()
