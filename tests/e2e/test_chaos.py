"""Checks through the real processes while every one of them is killed at random: one verdict each, none of them wrong.

`make chaos` is the long version. ``CHAOS_CHECKS`` says how many checks, ``CHAOS_SEED`` which ones and what is killed
when (it is printed; the machine's own timing is not repeated), ``CHAOS_REPORT`` a file for what happened.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import pytest
import pytest_asyncio

from keck import Client, EvalDone
from keck.embedded import Embedded, _system
from keck.errors import Unavailable
from keck.messages import decode
from keck.subjects import BUILDS, CHECKS, EVALS, check_key
from keck.verdict import Verdict

CHECKS_SENT: Final = int(os.environ.get("CHAOS_CHECKS", "40"))
SEED: Final = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
RUN: Final = "chaos"
OPTIONS: Final = {"device": "cpu", "correctness_sets": 2, "timed_calls": 2}
PER_CHECK_S: Final = 6.0
"""A generous bound: the short version must also end on a busy machine."""
WITHIN_S: Final = 300.0 + PER_CHECK_S * CHECKS_SENT
BETWEEN_KILLS_S: Final = (1.0, 6.0)
PAUSE_S: Final = 0.1

REFERENCE = """\
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def get_inputs():
    return [torch.randn(64, 64)]


def get_init_inputs():
    return []
"""
_RIGHT = REFERENCE.replace("class Model(", "class ModelNew(")
_EXTENSION = """\
import torch
from torch.utils.cpp_extension import load_inline

built = load_inline("chaos_relu", "torch::Tensor f(torch::Tensor x) { return x.clamp_min(0); }", functions=["f"],
                    no_implicit_headers=False)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return built.f(x)
"""


class Case(NamedTuple):
    """A candidate and what becomes of it where nothing goes wrong."""

    candidate: str
    verdict: Verdict


CASES: Final = (
    Case(_RIGHT, Verdict.PASSED),
    Case(_EXTENSION, Verdict.PASSED),
    Case(_RIGHT.replace("torch.relu(x)", "x"), Verdict.WRONG_RESULT),
    Case(_RIGHT.replace("return torch.relu(x)", "raise ValueError(1)"), Verdict.RUNTIME_ERROR),
    Case(_RIGHT.replace("ModelNew", "Modell"), Verdict.FORMAT_ERROR),
)
_T = TypeVar("_T")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedded]:
    """A whole system whose processes are started again at once, however often they die."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_system, "_HEALTHY_AFTER_S", 0.0)
        directory = tmp_path_factory.mktemp("chaos")
        async with Embedded(
            directory=directory, compilers=2, devices=("cpu",), settings_env={"COMPILER_CPUS": "1"}
        ) as running:
            yield running


@dataclass
class Monkey:
    """Kills one process of the system after the other."""

    system: Embedded
    dice: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    async def run(self, done: asyncio.Event) -> None:
        """Kill until told that it is done, and until everything was killed at least once."""
        while not done.is_set():
            for what in self.dice.sample(sorted(_TARGETS), len(_TARGETS)):
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), self.dice.uniform(*BETWEEN_KILLS_S))
                if done.is_set():
                    return
                pids = _TARGETS[what](self.system)
                if not pids:
                    continue  # it is being started again
                with suppress(ProcessLookupError):
                    os.kill(self.dice.choice(sorted(pids)), signal.SIGKILL)
                    self.kills[what] += 1


def _service(role: str) -> Callable[[Embedded], list[int]]:
    def pids(system: Embedded) -> list[int]:
        return [child.pid for child in system.processes if child.name.startswith(role) and child.is_running]

    return pids


def _below(role: str, program: str) -> Callable[[Embedded], list[int]]:
    """Processes that a service started, and whatever those started."""

    def pids(system: Embedded) -> list[int]:
        services = set(_service(role)(system))
        return [
            pid for pid, parents in _ancestors().items() if parents & services and program in _command(pid)
        ]

    return pids


_TARGETS: Final[dict[str, Callable[[Embedded], list[int]]]] = {
    "nats": _service("nats"),
    "gateway": _service("gateway"),
    "compiler": _service("compiler"),
    "executor": _service("executor"),
    "judge": _below("executor", "keck_executor.judge"),
    "runner": _below("executor", "keck_executor.runner"),
    "reader": _below("compiler", "keck_compiler.reading"),
}


def _ancestors() -> dict[int, set[int]]:
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found = {}
    for pid in parents:
        line, above = set[int](), parents[pid]
        while above in parents and above not in line:
            line.add(above)
            above = parents[above]
        found[pid] = line
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


async def test_every_check_gets_the_one_verdict_it_deserves_whatever_is_killed(
    system: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(SEED)
    with capsys.disabled():
        sys.stdout.write(f"\nCHAOS_SEED={SEED} CHAOS_CHECKS={CHECKS_SENT}\n")
    async with Client(system.nats_url) as bare:  # the build, before anything dies
        first = await bare.check(_EXTENSION, REFERENCE, run="before", options=OPTIONS, timeout_s=WITHIN_S)
        assert first.verdict is Verdict.PASSED, first
    expected = {f"c{number}": dice.choice(CASES) for number in range(CHECKS_SENT)}
    done, monkey = asyncio.Event(), Monkey(system, random.Random(SEED + 1))
    began = time.monotonic()
    killing = asyncio.create_task(monkey.run(done))
    try:
        async with asyncio.timeout(WITHIN_S):
            await _submit_all(system, expected, dice)
            await _until(lambda: _all_decided(system, len(expected)))
            while len(monkey.kills) < len(_TARGETS):  # noqa: ASYNC110 - the monkey tells nobody
                await asyncio.sleep(PAUSE_S)
            done.set()
            await killing
            await _until(lambda: _queues_are_empty(system))
    finally:
        done.set()
        await asyncio.gather(killing, return_exceptions=True)
    verdicts = await _verdicts(system)
    report = _report(verdicts, monkey, time.monotonic() - began)
    with capsys.disabled():
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if path := os.environ.get("CHAOS_REPORT"):
        Path(path).write_text(json.dumps(report, indent=1) + "\n")
    assert set(verdicts) == set(expected)
    for check_id, (verdict,) in verdicts.items():
        if verdict.verdict is Verdict.INFRA_ERROR:
            # Three attempts, each of which something killed. Never silent, never the candidate's.
            assert verdict.mask_sample
            assert verdict.failure_kind
        else:
            assert verdict.verdict is expected[check_id].verdict, (check_id, verdict)
    masked = sum(verdict.mask_sample for (verdict,) in verdicts.values())
    assert masked <= max(1, CHECKS_SENT // 20)


async def _submit_all(system: Embedded, cases: dict[str, Case], dice: random.Random) -> None:
    """Over either way in, each third twice, and again for as long as nobody takes it."""
    urls = [system.nats_url, system.http_url]
    for check_id, case in cases.items():
        for _ in range(1 + (dice.random() < 1 / 3)):
            await _until(
                lambda url=dice.choice(urls), check_id=check_id, case=case: _submit(url, check_id, case)
            )


async def _submit(url: str, check_id: str, case: Case) -> bool:
    async with Client(url) as client:
        await client.submit(
            case.candidate, REFERENCE, run=RUN, check_id=check_id, options=OPTIONS, deadline_s=WITHIN_S
        )
    return True


async def _until(ask: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Ask until the answer is yes; no answer is none."""
    while True:
        with suppress(Unavailable):
            if await ask():
                return
        await asyncio.sleep(PAUSE_S)


async def _all_decided(system: Embedded, count: int) -> bool:
    return len(await _stored(system)) >= count


async def _queues_are_empty(system: Embedded) -> bool:
    infos = [await system.bus.api(f"STREAM.INFO.{queue}", {}) for queue in (CHECKS, BUILDS)]
    return not any(info["state"]["messages"] for info in infos)


async def _stored(system: Embedded) -> dict[str, int]:
    """Subjects of the run's verdicts, all generations, and how many messages each has."""
    body = {"subjects_filter": f"eval.done.{RUN}.>"}
    info = await system.bus.api(f"STREAM.INFO.{EVALS}", body)
    if "error" in info:
        raise Unavailable(str(info["error"]))
    found: dict[str, int] = info["state"].get("subjects") or {}
    return found


async def _verdicts(system: Embedded) -> dict[str, list[EvalDone]]:
    """Every verdict of the run, by check."""
    stored = await _stored(system)
    assert set(stored.values()) == {1}
    found: dict[str, list[EvalDone]] = {}
    for subject in stored:
        message = await system.bus.last_by_subject(EVALS, subject)
        assert message is not None
        found.setdefault(check_key(subject).check_id, []).append(decode(message[1], EvalDone))
    return found


def _report(verdicts: dict[str, list[EvalDone]], monkey: Monkey, wall_s: float) -> dict[str, Any]:
    all_of_them = [verdict for several in verdicts.values() for verdict in several]
    return {
        "seed": SEED,
        "checks": len(verdicts),
        "wall_s": round(wall_s, 1),
        "kills": dict(sorted(monkey.kills.items())),
        "verdicts": dict(Counter(str(verdict.verdict) for verdict in all_of_them)),
        "attempts": dict(sorted(Counter(verdict.attempts for verdict in all_of_them).items())),
        "failures": dict(Counter(verdict.failure_kind for verdict in all_of_them if verdict.failure_kind)),
    }
