"""The compiler service put together: consumer, heartbeat, and the parts a request goes through."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

from keck import subjects
from keck._version import __version__
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.consumer import Consumer
from keck.fleet import Beat, Fleet
from keck.messages import CheckRequested, Heartbeat
from keck.scratch import scratch_directory
from keck.settings import Settings
from keck.streams import provision
from keck_compiler.build_cache import BuildCache
from keck_compiler.builder import Builder
from keck_compiler.compilation import Compilation
from keck_compiler.handler import Handler
from keck_compiler.recorder import Recorder
from keck_compiler.toolchain import Toolchain, find_toolchain

__all__ = ["serve", "slots_of", "worker_name"]

_DRAIN_GRACE_S = 5.0
"""How long builds in hand may go on after the signal to stop; then another compiler gets them."""


async def serve(bus: Bus, stop: asyncio.Event, settings: Settings) -> None:
    """Compile until told to stop."""
    await provision(bus, storage=settings.storage)
    with scratch_directory("compiler") as directory:
        toolchain = await asyncio.to_thread(find_toolchain, directory)
        await _serve(bus, stop, settings, toolchain)


async def _serve(bus: Bus, stop: asyncio.Event, settings: Settings, toolchain: Toolchain) -> None:
    fleet = Fleet(bus)
    await fleet.start()
    artifacts = Artifacts(bus)
    cache = BuildCache(bus, artifacts)
    handler = _handler(bus, settings, toolchain, artifacts=artifacts, cache=cache, fleet=fleet)
    consumer = Consumer(
        bus,
        stream=subjects.CHECKS,
        consumers=[subjects.compile_consumer(lane) for lane in subjects.LANES],
        expect=CheckRequested,
        slots=slots_of(settings),
        handle=handler.handle,
        on_exhausted=handler.give_up,
    )
    heartbeat = _heartbeat(handler.worker, consumer, toolchain, stop)
    beat = asyncio.create_task(Beat(bus, heartbeat).run(), name="heartbeat")
    running = asyncio.create_task(consumer.run(), name="consumer")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await consumer.drain(_DRAIN_GRACE_S)
        await running
    finally:
        for task in (beat, running, stopping):
            task.cancel()
        await asyncio.gather(beat, running, stopping, return_exceptions=True)
        await cache.close()
        await fleet.stop()


def slots_of(settings: Settings) -> int:
    """Builds at once: what the cores this process may use allow."""
    return max(1, len(os.sched_getaffinity(0)) // settings.compiler_cpus)


def worker_name(settings: Settings) -> str:
    """This process's name on the bus."""
    if settings.worker:
        return settings.worker
    host = "".join(letter if letter.isalnum() else "-" for letter in socket.gethostname())[:48]
    return f"compiler-{host}-{os.getpid()}"[:64]


def _handler(
    bus: Bus,
    settings: Settings,
    toolchain: Toolchain,
    *,
    artifacts: Artifacts,
    cache: BuildCache,
    fleet: Fleet,
) -> Handler:
    compilation = Compilation(
        cache=cache,
        recorder=Recorder(
            toolchain=toolchain, timeout_s=settings.record_timeout_s, memory_bytes=settings.build_memory_bytes
        ),
        builder=Builder(
            toolchain=toolchain, max_jobs=settings.max_jobs, memory_bytes=settings.build_memory_bytes
        ),
        executors=fleet.executors,
        settings=settings,
    )
    return Handler(bus=bus, artifacts=artifacts, compilation=compilation, worker=worker_name(settings))


def _heartbeat(
    worker: str, consumer: Consumer[CheckRequested], toolchain: Toolchain, stop: asyncio.Event
) -> Callable[[], Heartbeat]:
    started_at = time.time()
    facts: dict[str, str | float | None] = {**toolchain.versions}

    def make() -> Heartbeat:
        return Heartbeat(
            worker=worker,
            role="compiler",
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=started_at,
            at=time.time(),
            slots=consumer.slots,
            busy=consumer.busy,
            cpus=len(os.sched_getaffinity(0)),
            state="draining" if stop.is_set() else "ready",
            facts=facts,
        )

    return make
