"""Every probe against a cell of every tier, made by root and by an ordinary user, in and out of containers."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from keck_sandbox.inside import landlock
from keck_sandbox.inside.probes import MAY_BE_OPEN, PROBES

from .containers import Kind, interpreter, run_as

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or interpreter() is None, reason="needs root, and a Python that other users may execute"
)

ATTACK = """
import asyncio, json, sys, tempfile
from pathlib import Path
from keck_sandbox import ForkServer, Policy, Tier, use_tier
from keck_sandbox.selftest import attack, judge
tier, names, changes = Tier(sys.argv[1]), *map(json.loads, sys.argv[2:4])
ZYGOTE = f"import sys; sys.path[:0] = {sys.path!r}" + '''
import socket
from keck_sandbox.inside.probes import main
from keck_sandbox.inside.zygote import serve
serve(socket.socket(fileno=int(sys.argv[1])), lambda argv, fds: main(argv[0]))
'''
async def main():
    with use_tier(tier):
        if sys.argv[4] == "spawned":
            return await attack(names, **changes)
        policy = Policy(name="zygote", directory=Path(tempfile.mkdtemp(prefix="keck-zygote-")))
        server = await ForkServer.start(policy, lambda fd: [sys.executable, "-I", "-S", "-c", ZYGOTE, str(fd)])
        try:
            return await attack(names, start=lambda policy, argv: server.fork(policy, argv[-1:]), **changes)
        finally:
            await server.stop()
outcomes = asyncio.run(main())
report = judge(outcomes, tier)
print(json.dumps({'outcomes': {name: (each.word, each.detail) for name, each in outcomes.items()},
                  'failed': report.failed, 'passed': report.passed, 'properties': report.properties}))
"""
CLIMB = """
import asyncio, json
from dataclasses import asdict
from keck_sandbox.ladder import climb
print(json.dumps(asdict(asyncio.run(climb()))))
"""
PLACES: list[tuple[Kind, str]] = [
    ("root", "A"), ("root", "A-"), ("root", "B"),
    ("user", "A"), ("user", "A-"), ("user", "C"),
    ("docker root", "B"), ("k8s restricted", "C"),
]  # fmt: skip
LIGHT = sorted(name for name, each in PROBES.items() if not each.heavy)
HEAVY = sorted(name for name, each in PROBES.items() if each.heavy)


def attack(
    kind: Kind,
    tier: str,
    names: list[str],
    *,
    version: int | None = None,
    how: str = "spawned",
    **changes: int,
) -> dict[str, Any]:
    ran = run_as(kind, ATTACK, tier, json.dumps(names), json.dumps(changes), how, landlock=version)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert set(found["outcomes"]) >= set(names)
    return found


def got_through(found: dict[str, Any], tier: str) -> dict[str, str]:
    return {
        name: f"{word}: {detail}"
        for name, (word, detail) in found["outcomes"].items()
        if word in ("open", "broken") and tier not in MAY_BE_OPEN.get(name, {})
    }


@pytest.mark.parametrize("how", ["spawned", "forked"])
@pytest.mark.parametrize(("kind", "tier"), PLACES)
def test_a_cell_holds_every_probe(kind: Kind, tier: str, how: str) -> None:
    found = attack(kind, tier, LIGHT, how=how)
    assert got_through(found, tier) == {}
    assert found["failed"] == []
    assert found["passed"] > 100


@pytest.mark.parametrize("version", range(1, 8))
@pytest.mark.parametrize(("kind", "tier"), [("root", "A"), ("root", "B"), ("user", "A-"), ("user", "C")])
def test_older_kernels_hold_as_much(kind: Kind, tier: str, version: int) -> None:
    """What Landlock learned late, the filter of system calls knows where it did not."""
    if version > landlock.abi():
        pytest.skip("a kernel older than that")
    assert got_through(attack(kind, tier, LIGHT, version=version), tier) == {}


@pytest.mark.parametrize(("kind", "tier"), PLACES)
def test_a_cell_takes_no_more_than_it_may(kind: Kind, tier: str) -> None:
    found = attack(
        kind, tier, HEAVY, work_bytes=16 << 20, work_inodes=1_000, shm_bytes=8 << 20, file_bytes=64 << 20, processes=100
    )  # fmt: skip
    assert got_through(found, tier) == {}


@pytest.mark.parametrize(("kind", "tier"), PLACES)
def test_what_is_said_to_be_open_is(kind: Kind, tier: str) -> None:
    """So that the table is taken back when a kernel, or a change of ours, closes it."""
    names = sorted(name for name, tiers in MAY_BE_OPEN.items() if tier in tiers and not PROBES[name].heavy)
    names = [
        name for name in names if not PROBES[name].outside
    ]  # what is seen from outside comes in its own time
    found = attack(kind, tier, names)
    assert {name: word for name, (word, _) in found["outcomes"].items()} == dict.fromkeys(names, "open")


@pytest.mark.parametrize(
    ("kind", "tier", "user"),
    [("root", "A", "own"), ("user", "A", "service"), ("docker root", "B", "own"), ("k8s restricted", "C", "service")],
)  # fmt: skip
def test_the_ladder_ends_where_it_should(kind: Kind, tier: str, user: str) -> None:
    ran = run_as(kind, CLIMB)
    assert ran.returncode == 0, ran.stderr
    standing = json.loads(ran.stdout.splitlines()[-1])
    assert (standing["level"], standing["user"]) == (tier, user)
    assert all(
        standing["properties"][name] == "ok" for name in ("fs_read", "net", "signals", "ptrace", "priv")
    )
