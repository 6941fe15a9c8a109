"""One judge and one pool of runners for all tests here, on the CPU device."""

from __future__ import annotations

import asyncio
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from keck.messages import Options
from keck.settings import load
from keck_executor.judge.job import Job, Outcome, Phase
from keck_executor.placement import place
from keck_executor.runner_pool import PooledRunner
from keck_executor.station import Station, open_station

PLAIN = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1

def get_inputs():
    return [torch.rand(16, 8)]

def get_init_inputs():
    return []
"""


@dataclass(frozen=True)
class Judged:
    """What came of a check, and what the candidate's process printed."""

    outcome: Outcome
    output: str
    lives: bool
    """Whether the candidate's process was still there when the outcome of a timed check had come."""


class Bench:
    """The executor's own parts without the bus."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.judge = station.judge
        self.pool = station.pool
        self.serial = 0

    async def check(
        self,
        candidate: str,
        reference: str = "",
        *,
        options: Options | None = None,
        exec_timeout_s: float = 20.0,
        reference_timeout_s: float = 20.0,
        reference_hash: str = "",
        on_stage: Callable[[str, PooledRunner, PooledRunner], None] = lambda *_: None,
    ) -> Judged:
        """Judge a pair; `candidate` is a module, or the body of a ``forward`` alone."""
        self.serial += 1
        runners = [await self.pool.take("candidate"), await self.pool.take("reference")]
        try:
            paths = []
            for name, runner, text in zip(
                ("candidate", "reference"), runners, (module_of(candidate), reference or PLAIN), strict=True
            ):
                paths.append(runner.directory / f"{name}.py")
                paths[-1].write_text(textwrap.dedent(text), encoding="utf-8")
            job = Job(
                serial=self.serial,
                options=options or Options(timed_calls=0, correctness_sets=2),
                candidate_classes=("ModelNew",),
                reference_names=("Model", "get_inputs", "get_init_inputs"),
                candidate_path=str(paths[0]),
                reference_path=str(paths[1]),
                extensions=[],
                candidate_pid=runners[0].process.leader,
                reference_pid=runners[1].process.leader,
                exec_timeout_s=exec_timeout_s,
                reference_timeout_s=reference_timeout_s,
                reference_hash=reference_hash,
            )

            async def on_phase(phase: Phase) -> None:
                on_stage(phase.stage, runners[0], runners[1])

            outcome = await self.judge.judge(job, (runners[0].sock, runners[1].sock), on_phase)
            lives = outcome.timing is None or await runners[0].process.wait(0.5) is None
            return Judged(outcome, runners[0].process.output(), lives)
        finally:
            await asyncio.gather(*(runner.end(self.station.quarantine) for runner in runners))


def module_of(candidate: str) -> str:
    """A whole candidate around the body of a ``forward``."""
    if "class ModelNew" in candidate:
        return candidate
    body = textwrap.indent(textwrap.dedent(candidate).strip(), " " * 8)
    head = "import os, sys, torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n"
    return head + body + "\n"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench() -> AsyncIterator[Bench]:
    settings = load({"KECK_DEVICE": "cpu", "KECK_SPARES": "2"})
    with tempfile.TemporaryDirectory(prefix="keck-test-", ignore_cleanup_errors=True) as name:
        async with open_station(settings, place(settings), Path(name)) as station:
            yield Bench(station)
