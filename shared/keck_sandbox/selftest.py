"""Attacking a cell of a tier before anything is entrusted to it, and looking from outside at what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keck_sandbox.collect import remove_tree
from keck_sandbox.inside import probes
from keck_sandbox.inside.probes import MAY_BE_OPEN, PROBES
from keck_sandbox.policy import Policy
from keck_sandbox.process import Process, spawn
from keck_sandbox.tier import Tier
from keck_sandbox.victim import victims

__all__ = ["PROGRAM", "Outcome", "Report", "attack", "judge", "parse", "run_probes"]

PROGRAM = str(Path(probes.__file__).parent / "__main__.py")
_WAIT_S = 30.0
_PARTIAL = "partial: "


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one probe."""

    word: str
    """``blocked``, ``open``, ``unsupported`` or ``broken``; ``open`` as well where the victims saw an effect."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the probes found."""

    passed: int = 0
    failed: tuple[str, ...] = ()
    """Probes that got through and may not, or did not run."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """For each property ``ok``, or what is open of it."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Of every single probe."""


async def run_probes(tier: Tier) -> Report:
    """Run the probes that are quick in a cell of the tier in force, which is `tier`.

    Raises:
        OSError: the cell cannot be made, or the probes did not end as they should.
    """
    names = [name for name, each in PROBES.items() if not each.heavy]
    return judge(await attack(names), tier)


async def attack(
    names: list[str], *, start: Callable[[Policy, list[str]], Awaitable[Process]] = spawn, **changes: Any
) -> dict[str, Outcome]:
    """What becomes of these probes in a cell of the tier in force.

    Args:
        names: of probes.
        start: makes the cell; another than :func:`spawn` may take of the command line only its last word.
        changes: of the cell's policy.

    Raises:
        OSError: the cell cannot be made, or its program did not get to its end.
    """
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="keck-probe-"))
    policy = Policy(name="probe", directory=directory, **changes)
    try:
        with victims() as victim:
            sizes = {
                "work_bytes": policy.work_bytes,
                "work_inodes": policy.work_inodes,
                "shm_bytes": policy.shm_bytes,
            }
            facts = {
                **victim.facts,
                **sizes,
                "processes": policy.processes,
                "names": names,
                "fds": policy.pass_fds,
            }
            process = await start(policy, [sys.executable, "-I", "-S", PROGRAM, json.dumps(facts)])
            try:
                ended = await process.wait(_WAIT_S)
            finally:
                await process.kill()
            if ended is None or ended.code != 0:
                raise OSError(f"the probes did not end well: {process.output()[-500:]}")
            return parse(process.output(), names, victim.effects())
    finally:
        await asyncio.to_thread(remove_tree, directory)


def parse(output: str, names: list[str], effects: Mapping[str, str]) -> dict[str, Outcome]:
    """What the program printed, and what was seen from outside, as one outcome for each probe."""
    told: dict[str, Outcome] = {}
    for line in output.splitlines():
        if line.startswith('{"name"'):
            said = json.loads(line)
            told[said["name"]] = Outcome(said["outcome"], said["detail"])
    outcomes = {}
    for name in names:
        outcome = told.get(name, Outcome("broken", "it said nothing"))
        if PROBES[name].outside and outcome.word == "open":
            outcome = Outcome("blocked", "nothing came of it")
        outcomes[name] = outcome
    return outcomes | {name: Outcome("open", f"seen from outside: {what}") for name, what in effects.items()}


def judge(outcomes: Mapping[str, Outcome], tier: Tier) -> Report:
    """What the outcomes mean for cells of a tier."""
    through = {name for name, outcome in outcomes.items() if outcome.word in ("open", "broken")}
    allowed = {name for name, reasons in MAY_BE_OPEN.items() if tier in reasons}
    properties = {PROBES[name].what: "ok" for name in outcomes}
    for what in properties:
        open_ = sorted(name for name in through if PROBES[name].what == what)
        if open_:
            properties[what] = f"open: {', '.join(open_)}"
    return Report(
        passed=sum(outcome.word == "blocked" for outcome in outcomes.values()),
        failed=tuple(sorted(through - allowed)),
        properties=_by_construction(tier) | properties,
        outcomes=outcomes,
    )


def _by_construction(tier: Tier) -> dict[str, str]:
    """What is not attacked at every start, and is as good as the mechanism."""
    return {
        "end": "ok: pid namespace" if tier is Tier.A else _PARTIAL + "process group",
        "memory": _PARTIAL + "looked at every 50 ms, no cgroup",
        "space": "ok: tmpfs" if tier.has_namespaces else _PARTIAL + "size of a file",
        "gpu_driver": "exposed: it is reached by ioctl in every tier",
    }
