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
from keck.targets import targets_of
from keck.worker import Worker
from keck_executor.handler import Handler
from keck_executor.placement import Placement
from keck_executor.station import Station, open_station

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
    await provision(bus, storage=settings.storage)
    with scratch_directory("executor") as directory:
        async with open_station(settings, placement, directory) as station:
            await _work(bus, stop, station, worker=worker, isolation=isolation)


async def _work(
    bus: Bus, stop: asyncio.Event, station: Station, *, worker: Worker, isolation: Isolation
) -> None:
    facts = station.judge.facts
    target = station.placement.target(facts)
    targets = targets_of(target, facts.get("gpu"))
    for each in targets:
        await ensure_target(bus, each)
    handler = Handler(bus, station, worker=worker.name, isolation=isolation)
    consumer = Consumer(
        bus,
        stream=subjects.BUILDS,
        consumers=[subjects.execute_consumer(each, lane) for lane in subjects.LANES for each in targets],
        expect=CompileDone,
        slots=1,
        handle=handler.handle,
        on_exhausted=handler.give_up,
    )
    station.quarantine.on_change(consumer.hold_off)

    def heartbeat() -> Heartbeat:
        reasons = station.quarantine.reasons
        return worker.heartbeat(
            slots=1,
            busy=consumer.busy,
            cpus=os.cpu_count() or 1,
            target=target,
            arch=str(facts.get("arch") or ""),
            state="draining" if stop.is_set() else "quarantined" if reasons else "ready",
            facts={**station.facts, "quarantine": "; ".join(reasons)} if reasons else station.facts,
            isolation=isolation,
        )

    logger().info("executor_ready", target=target, **{k: facts.get(k) for k in ("gpu", "cpu", "torch")})
    await consume(consumer, stop, beat=Beat(bus, heartbeat), grace_s=station.settings.exec_timeout_s)
