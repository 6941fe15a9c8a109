"""What scoring stored verdicts again costs: so many verdicts on a real server, a replay through a real gateway.

python tests/benchmarks/rescore.py [COUNT]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from keck import Client, Replay
from keck.bus import Bus
from keck.messages import EvalDone, Provenance, RanOperation, encode
from keck.settings import Settings
from keck.streams import provision
from keck.testing import NatsServer, sample_eval_done, sample_request
from keck_gateway.server import bind, url_of
from keck_gateway.service import serve

_CHUNK = 500
_PROBE_EVERY_S = 0.05
_DELEGATES = Provenance(
    device="cpu",
    state="traced",
    operations=[RanOperation(name=f"aten::op{number}", count=1, total_us=9.0) for number in range(20)],
    own_calls=[RanOperation(name="own.forward", count=1, total_us=1.0)],
    defines=["own"],
)


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as directory, NatsServer(Path(directory)) as server:
        stop, bound = asyncio.Event(), bind("127.0.0.1", 0)
        async with await Bus.connect(server.url, name="bench") as bus:
            await provision(bus, storage="embedded")
            size = await _fill(bus, count)
            async with await Bus.connect(server.url, name="gateway") as own:
                settings = Settings(nats_url=server.url)
                serving = asyncio.create_task(serve(own, stop, settings=settings, bound=bound))
                await _answers(url_of(bound))
                await _replay(url_of(bound), count, size)
                stop.set()
                await serving


async def _fill(bus: Bus, count: int) -> int:
    """Store the verdicts; the size of one, in bytes."""
    template = sample_eval_done(sample_request(run="bench"), provenance=_DELEGATES)
    began = time.monotonic()
    for first in range(0, count, _CHUNK):
        chunk = [_named(template, number) for number in range(first, min(count, first + _CHUNK))]
        assert all(await bus.publish_terminals(chunk))
    taken = time.monotonic() - began
    sys.stdout.write(f"stored {count} verdicts of {len(encode(template))} bytes in {taken:.1f} s\n")
    return len(encode(template))


def _named(template: EvalDone, number: int) -> EvalDone:
    return msgspec.structs.replace(template, check_id=f"c{number}")


async def _replay(url: str, count: int, size: int) -> None:
    waits: list[float] = []
    probing = asyncio.create_task(_probe(url, waits))
    order = Replay(source="eval.done", run="bench", options={"policy": "custom-only"})
    began = time.monotonic()
    async with Client(url) as client:
        told = [progress async for progress in client.replay(order)]
    taken = time.monotonic() - began
    probing.cancel()
    last = told[-1]
    assert (last.finished, last.made) == (True, count), last
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    sys.stdout.write(
        f"re-scored {count} verdicts of {size} bytes in {taken:.1f} s, {count / taken:.0f}/s; {last.changed}\n"
        f"meanwhile GET /healthz took {p50 * 1000:.1f} ms (p50), {p99 * 1000:.1f} ms (p99), {len(waits)} asked\n"
    )


async def _answers(url: str) -> None:
    """Return once the gateway does."""
    async with httpx.AsyncClient(base_url=url) as http, asyncio.timeout(10):
        while True:
            try:
                await http.get("/healthz")
                return
            except httpx.ConnectError:
                await asyncio.sleep(_PROBE_EVERY_S)


async def _probe(url: str, waits: list[float]) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        while True:
            began = time.monotonic()
            await http.get("/healthz")
            waits.append(time.monotonic() - began)
            await asyncio.sleep(_PROBE_EVERY_S)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
