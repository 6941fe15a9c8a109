"""A pair of sources through the executor's own parts, without a bus: for benchmarks."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from dataclasses import dataclass

from keck.messages import Options
from keck_executor.judge.job import Job, Outcome, Phase
from keck_executor.residue import CLEARED
from keck_executor.station import Station

__all__ = ["Judged", "judge", "twin"]

_serials = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome, and seconds of the executor's own work around it."""

    outcome: Outcome
    taken_s: float
    """Until both runners were there."""
    wall_s: float
    """From asking for runners to the outcome."""


def twin(reference: str) -> str:
    """The same model as a candidate."""
    return reference.replace("class Model(", "class ModelNew(")


async def judge(station: Station, candidate: str, reference: str, options: Options) -> Judged:
    """Judge a pair as the executor does, cleaning up included."""
    began = time.perf_counter()
    runners = [await station.pool.take("candidate"), await station.pool.take("reference")]
    taken_s = time.perf_counter() - began
    await station.pool.refill()
    try:
        paths = []
        for name, runner, text in zip(
            ("candidate", "reference"), runners, (candidate, reference), strict=True
        ):
            paths.append(runner.directory / f"{name}.py")
            paths[-1].write_text(text)
        job = Job(
            serial=next(_serials),
            options=options,
            candidate_classes=("ModelNew",),
            reference_names=("Model", "get_inputs", "get_init_inputs"),
            candidate_path=str(paths[0]),
            reference_path=str(paths[1]),
            extensions=[],
            candidate_pid=runners[0].process.leader,
            reference_pid=runners[1].process.leader,
            exec_timeout_s=60.0,
            reference_timeout_s=60.0,
            scrub=station.memory_left != CLEARED,
            reference_hash=hashlib.sha256(reference.encode()).hexdigest(),
        )

        async def ignore(_: Phase) -> None:
            pass

        outcome = await station.judge.judge(job, (runners[0].sock, runners[1].sock), ignore)
        return Judged(outcome, taken_s, time.perf_counter() - began)
    finally:
        await asyncio.gather(*(runner.end(station.quarantine) for runner in runners))
