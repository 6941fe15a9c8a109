"""One executor on the bus: judge up, spares warm, then one check after the other."""

from __future__ import annotations

import asyncio
import os

from keck import subjects
from keck.bus import Bus
from keck.consumer import Consumer
from keck.fleet import Beat
from keck.logs import logger
from keck.messages import CompileDone, Heartbeat, Isolation
from keck.scratch import scratch_directory
from keck.service import consume
from keck.settings import Settings
from keck.streams import ensure_target, provision
from keck.worker import Worker
from keck_executor.handler import Handler
from keck_executor.judge_process import JudgeProcess
from keck_executor.placement import Placement
from keck_executor.runner_pool import RunnerPool
from keck_sandbox import become_subreaper

__all__ = ["serve"]


async def serve(
    bus: Bus,
    stop: asyncio.Event,
    *,
    settings: Settings,
    placement: Placement,
    worker: Worker,
    isolation: Isolation,
) -> None:
    """Run until `stop` is set, then finish or hand back what is in hand."""
    become_subreaper()
    with scratch_directory("executor") as directory:
        judge = JudgeProcess(placement, directory)
        pool = RunnerPool(settings, placement, directory)
        try:
            await asyncio.gather(judge.start(), pool.refill(), provision(bus, storage=settings.storage))
            await _work(
                bus,
                stop,
                settings=settings,
                placement=placement,
                worker=worker,
                isolation=isolation,
                judge=judge,
                pool=pool,
            )
        finally:
            await pool.close()
            await judge.stop()


async def _work(
    bus: Bus,
    stop: asyncio.Event,
    *,
    settings: Settings,
    placement: Placement,
    worker: Worker,
    isolation: Isolation,
    judge: JudgeProcess,
    pool: RunnerPool,
) -> None:
    target = placement.target(judge.facts)
    targets = [target] if placement.kind == "cpu" else [target, subjects.CUDA_ANY]
    for each in targets:
        await ensure_target(bus, each)
    handler = Handler(
        bus,
        settings,
        worker=worker.name,
        placement=placement,
        isolation=isolation,
        judge=judge,
        pool=pool,
    )
    consumer = Consumer(
        bus,
        stream=subjects.BUILDS,
        consumers=[subjects.execute_consumer(each, lane) for lane in subjects.LANES for each in targets],
        expect=CompileDone,
        slots=1,
        handle=handler.handle,
        on_exhausted=handler.give_up,
    )

    def heartbeat() -> Heartbeat:
        return worker.heartbeat(
            slots=1,
            busy=consumer.busy,
            cpus=os.cpu_count() or 1,
            target=target,
            arch=str(judge.facts.get("arch") or ""),
            state="draining" if stop.is_set() else "ready",
            facts=judge.facts,
            isolation=isolation,
        )

    logger().info("executor_ready", target=target, **{k: judge.facts.get(k) for k in ("gpu", "cpu", "torch")})
    await consume(consumer, stop, beat=Beat(bus, heartbeat), grace_s=settings.exec_timeout_s)
