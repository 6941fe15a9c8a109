"""The compiler service put together: consumer, heartbeat, and the parts a request goes through."""

from __future__ import annotations

import asyncio
import os
from functools import partial

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.consumer import Consumer
from keck.fleet import Beat, Fleet
from keck.messages import CheckRequested, Heartbeat, Isolation
from keck.scratch import scratch_directory
from keck.service import consume
from keck.settings import Settings
from keck.streams import provision
from keck.worker import Worker
from keck_cell import ExtensionCall
from keck_compiler.audit import Audit
from keck_compiler.build_cache import BuildCache
from keck_compiler.builder import Builder
from keck_compiler.built import Built
from keck_compiler.compilation import Compilation
from keck_compiler.fast_recipe import FastRecipe
from keck_compiler.handler import Handler
from keck_compiler.memory_budget import MemoryBudget
from keck_compiler.precompiling import Precompiling
from keck_compiler.reading.reader import Reader
from keck_compiler.recorder import Recorder
from keck_compiler.toolchain import Toolchain, find_toolchain
from keck_compiler.zygote import BuildZygote

__all__ = ["serve", "slots_of"]

_DRAIN_GRACE_S = 5.0
"""How long builds in hand may go on after the signal to stop; then another compiler gets them."""


async def serve(
    bus: Bus, stop: asyncio.Event, *, settings: Settings, worker: Worker, isolation: Isolation
) -> None:
    """Compile until told to stop."""
    await provision(bus, storage=settings.storage)
    with scratch_directory("compiler") as directory:
        toolchain = await asyncio.to_thread(find_toolchain, directory)
        reader = Reader(directory)
        zygote = BuildZygote(toolchain, directory)
        recipe = FastRecipe(toolchain, settings.state_dir.expanduser(), wanted=settings.recipe, zygote=zygote)
        try:
            await _serve(
                bus,
                stop,
                settings=settings,
                toolchain=toolchain,
                reader=reader,
                recipe=recipe,
                zygote=zygote,
                worker=worker,
                isolation=isolation,
            )
        finally:
            await recipe.close()
            await zygote.close()
            await reader.close()


async def _serve(
    bus: Bus,
    stop: asyncio.Event,
    *,
    settings: Settings,
    toolchain: Toolchain,
    reader: Reader,
    recipe: FastRecipe,
    zygote: BuildZygote,
    worker: Worker,
    isolation: Isolation,
) -> None:
    fleet = Fleet(bus)
    await fleet.start()
    artifacts = Artifacts(bus)
    cache = BuildCache(bus, artifacts, trusts_fast=lambda: not recipe.distrusted)
    precompiling = Precompiling()
    memory = MemoryBudget.of_machine()
    audit = Audit(
        settings.audit_share,
        partial(_stock_build, toolchain, settings, memory),
        on_difference=recipe.distrust,
    )
    handler = _handler(
        bus,
        settings,
        toolchain,
        reader=reader,
        recipe=recipe,
        zygote=zygote,
        audit=audit,
        precompiling=precompiling,
        memory=memory,
        artifacts=artifacts,
        cache=cache,
        fleet=fleet,
        worker=worker.name,
        isolation=isolation,
    )
    consumer = Consumer(
        bus,
        stream=subjects.CHECKS,
        consumers=[subjects.compile_consumer(lane) for lane in subjects.LANES],
        expect=CheckRequested,
        slots=slots_of(settings),
        handle=handler.handle,
        on_exhausted=handler.give_up,
    )
    facts: dict[str, str | float | None] = {**toolchain.versions}

    def heartbeat() -> Heartbeat:
        facts["recipe"] = recipe.described
        return worker.heartbeat(
            slots=consumer.slots,
            busy=consumer.busy,
            cpus=len(os.sched_getaffinity(0)),
            state="draining" if stop.is_set() else "ready",
            facts=facts,
            isolation=isolation,
        )

    try:
        await consume(consumer, stop, beat=Beat(bus, heartbeat), grace_s=_DRAIN_GRACE_S)
    finally:
        await audit.close()
        await precompiling.close()
        await cache.close()
        await fleet.stop()


async def _stock_build(
    toolchain: Toolchain, settings: Settings, memory: MemoryBudget, call: ExtensionCall, arch: str
) -> Built:
    builder = Builder(
        toolchain=toolchain,
        max_jobs=settings.max_jobs,
        memory_bytes=settings.build_memory_bytes,
        memory=memory,
    )
    return await builder.build_stock(call, arch=arch, timeout_s=settings.compile_timeout_s)


def slots_of(settings: Settings) -> int:
    """Builds at once: what the cores this process may use allow."""
    return max(1, len(os.sched_getaffinity(0)) // settings.compiler_cpus)


def _handler(
    bus: Bus,
    settings: Settings,
    toolchain: Toolchain,
    *,
    reader: Reader,
    recipe: FastRecipe,
    zygote: BuildZygote,
    audit: Audit,
    precompiling: Precompiling,
    memory: MemoryBudget,
    artifacts: Artifacts,
    cache: BuildCache,
    fleet: Fleet,
    worker: str,
    isolation: Isolation,
) -> Handler:
    compilation = Compilation(
        reader=reader,
        cache=cache,
        recorder=Recorder(
            toolchain=toolchain, timeout_s=settings.record_timeout_s, memory_bytes=settings.build_memory_bytes
        ),
        builder=Builder(
            toolchain=toolchain,
            max_jobs=settings.max_jobs,
            memory_bytes=settings.build_memory_bytes,
            lean=recipe.lean,
            zygote=zygote,
            precompiling=precompiling,
            audit=audit.consider,
            memory=memory,
        ),
        executors=fleet.executors,
        settings=settings,
    )
    return Handler(bus=bus, artifacts=artifacts, compilation=compilation, worker=worker, isolation=isolation)
