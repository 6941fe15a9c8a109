"""Looking at workers and queues, wherever there is a bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from keck import subjects
from keck.bus import Bus
from keck.errors import NotPermitted
from keck.fleet import Fleet
from keck.load import Load, Queue

__all__ = ["load_of"]


async def load_of(bus: Bus, fleet: Fleet) -> Load:
    """Look at workers and queues.

    Raises:
        Unavailable: the bus does not answer.
    """
    workers = fleet.live()
    targets = {worker.target for worker in workers if worker.target} | {subjects.CUDA_ANY}
    try:
        found = await asyncio.gather(*(_filled(bus, *queue) for queue in _queues(sorted(targets))))
        stream = await bus.api(f"STREAM.INFO.{subjects.EVALS}", {})
    except NotPermitted:
        return Load(at=time.time(), workers=workers, queues=None, verdicts=None)
    return Load(
        at=time.time(),
        workers=workers,
        queues=[queue for queue in found if queue is not None],
        verdicts=stream.get("state", {}).get("last_seq", 0),
    )


def _queues(targets: list[str]) -> Iterator[tuple[str, Queue]]:
    """Every queue there may be, empty, and the name of its stream and consumer."""
    for lane in subjects.LANES:
        yield (
            f"{subjects.CHECKS}.{subjects.compile_consumer(lane)}",
            Queue(stage="compile", target="", lane=lane, waiting=0, in_hand=0),
        )
    for target in targets:
        for lane in subjects.LANES:
            yield (
                f"{subjects.BUILDS}.{subjects.execute_consumer(target, lane)}",
                Queue(stage="execute", target=target, lane=lane, waiting=0, in_hand=0),
            )


async def _filled(bus: Bus, consumer: str, queue: Queue) -> Queue | None:
    info = await bus.api(f"CONSUMER.INFO.{consumer}", {})
    if "error" in info:
        return None  # nobody made it yet: no worker of this kind ever was
    return msgspec.structs.replace(
        queue, waiting=info.get("num_pending", 0), in_hand=info.get("num_ack_pending", 0)
    )
