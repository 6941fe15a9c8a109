"""What containment costs: entering a cell on each tier, and whether a kernel's time notices.

    python tests/benchmarks/sandbox.py [--device cpu|cuda] [--forks N] [--rounds N] [--out FILE.json]

Tiers this host does not allow are named with the reason. Entering is measured from the request to the first line of
the cell's own program, with torch imported in the zygote; tiers take turns, so that they meet the same machine.
Timing: the same pair judged with and without containment in turns, by the real judge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from keck.messages import Options
from keck.settings import load
from keck_executor.placement import Placement, place
from keck_executor.station import Station, open_station
from keck_sandbox import Policy, Tier, become_subreaper, spawn, use_tier
from keck_sandbox.fork_server import ForkServer
from keck_sandbox.ladder import TooWeak, climb

from judged import judge, twin  # isort: skip - beside this file

REFERENCE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return {body}
def get_inputs():
    return [torch.rand({size})]
def get_init_inputs():
    return []
"""
# About 10, 50 and 500 microseconds on an H200.
PAIRS = {
    "small": ("x * 2 + 1", "1 << 20"),
    "medium": ("torch.relu(x) * 2", "16 << 20"),
    "large": ("torch.exp(x) + x", "128 << 20"),
}
CPU_PAIRS = {"small": ("x * 2 + 1", "1 << 18"), "medium": ("torch.exp(x)", "1 << 20")}


async def tiers_here(placement: Placement) -> dict[Tier, str]:
    """Every tier, with why it cannot be had (empty: it can)."""
    found = {}
    for tier in Tier:
        try:
            standing = await climb(at_least=Tier.X, only=tier, env=placement.env, devices=placement.devices)
            found[tier] = ""
            print(f"{tier}: {standing.summary}", flush=True)
        except TooWeak as error:
            found[tier] = str(error).splitlines()[1].strip()
            print(found[tier], flush=True)
    return found


async def entering(tiers: list[Tier], placement: Placement, base: Path, forks: int) -> dict[str, Any]:
    """Milliseconds to the program's first line: forked from a zygote with torch, and started afresh."""
    forked: dict[Tier, list[float]] = {tier: [] for tier in tiers}
    started: dict[Tier, list[float]] = {tier: [] for tier in tiers}
    policy = Policy(name="bench", directory=base / "zygote", env={**placement.env, "OMP_NUM_THREADS": "1"})
    with use_tier(Tier.X):
        server = await ForkServer.start(
            policy, lambda fd: [sys.executable, "-P", "-m", "keck_executor.runner.zygote", str(fd)]
        )
    for number in range(forks):
        for tier in tiers:
            with use_tier(tier):
                cell = Policy(
                    name="bench",
                    directory=base / f"{tier}{number}",
                    devices=placement.devices,
                    shares_user=True,
                )
                began = time.perf_counter()
                process = await server.fork(cell, ["-"])
                forked[tier].append(1e3 * (time.perf_counter() - began))
                await process.kill()
                began = time.perf_counter()
                process = await spawn(cell, [sys.executable, "-I", "-S", "-c", ""])
                started[tier].append(1e3 * (time.perf_counter() - began))
                await process.kill()
    await server.stop()
    return {
        "forked_ms": {tier: statistics.median(times) for tier, times in forked.items()},
        "started_ms": {tier: statistics.median(times) for tier, times in started.items()},
    }


async def timing(tiers: list[Tier], placement: Placement, base: Path, rounds: int) -> dict[str, Any]:
    """Medians of the judged times, on each tier, in turns."""
    pairs = CPU_PAIRS if placement.kind == "cpu" else PAIRS
    found: dict[str, dict[str, list[dict[str, Any]]]] = {pair: {tier: [] for tier in tiers} for pair in pairs}
    async with AsyncExitStack() as stack:
        stations = {}
        for tier in tiers:
            directory = base / f"timing-{tier}"
            directory.mkdir(mode=0o711)
            with use_tier(tier):
                stations[tier] = await stack.enter_async_context(open_station(load(), placement, directory))
        for _ in range(rounds):
            for pair, (body, size) in pairs.items():
                for tier, station in stations.items():
                    with use_tier(tier):
                        found[pair][tier].append(await check(station, REFERENCE.format(body=body, size=size)))
    return {
        pair: {
            tier: {key: statistics.median(check[key] for check in checks) for key in checks[0]}
            for tier, checks in by_tier.items()
        }
        for pair, by_tier in found.items()
    }


async def check(station: Station, reference: str) -> dict[str, Any]:
    """Judge a pair of the same computation."""
    judged = await judge(station, twin(reference), reference, Options(timed_calls=100))
    outcome = judged.outcome
    if outcome.timing is None:
        raise SystemExit(f"{outcome.verdict} {outcome.message} {outcome.detail}")
    return {
        "candidate_ms": outcome.timing.candidate_ms.median,
        "reference_ms": outcome.timing.reference_ms.median,
        "held_s": outcome.held_s,
        "taken_s": judged.taken_s,
    }


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--forks", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    become_subreaper()
    placement = place(load({**os.environ, "KECK_DEVICE": arguments.device}))
    with tempfile.TemporaryDirectory(prefix="keck-bench-", ignore_cleanup_errors=True) as name:
        base = Path(name)
        os.chmod(base, 0o711)  # for cells without a root of their own
        reasons = await tiers_here(placement)
        here = [tier for tier, reason in reasons.items() if not reason]
        result: dict[str, Any] = {
            "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "uid": os.getuid()},
            "not_here": {tier: reason for tier, reason in reasons.items() if reason},
            "entering": await entering(here, placement, base, arguments.forks),
        }
        print(json.dumps(result, indent=1), flush=True)
        best = here[0]
        compared = [best, Tier.X] if best is not Tier.X else [Tier.X]
        result["timing"] = await timing(compared, placement, base, arguments.rounds)
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
