"""A service that is killed takes its cells with it, on every tier, as root and as an ordinary user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keck.testing import wait_until

from .containers import Kind, interpreter, run_as

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or interpreter() is None, reason="needs root, and a Python that other users may execute"
)

# Starts a cell whose first process leaves a family behind, prints the pids of all as the host sees them, and dies.
SERVICE = """
import asyncio, os, signal, sys, tempfile
from pathlib import Path
from keck_sandbox import Policy, Tier, spawn, use_tier
from keck_sandbox.guardian import guardian_pid
from keck_sandbox.reap import cell_members

FAMILY = '''
import os, signal, sys
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
print("here", flush=True)
signal.pause()
'''
async def main():
    with use_tier(Tier(sys.argv[1])):
        directory = Path(tempfile.mkdtemp(prefix="keck-guardian-"))
        cell = await spawn(Policy(name="cell", directory=directory), [sys.executable, "-I", "-S", "-c", FAMILY])
        over = await spawn(Policy(name="over", directory=directory / "over"), [sys.executable, "-I", "-S", "-c", ""])
        await over.wait()
        async with asyncio.timeout(20):
            while "here" not in cell.output() or len(members := cell_members(cell.leader)) < 7:
                await asyncio.sleep(0.01)
    assert cell.pid not in members or cell.pid == cell.leader
    print(*members, cell.pid)
    print(guardian_pid() or "", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("kind", "tier"), [("root", "A"), ("root", "A-"), ("root", "B"), ("user", "A"), ("user", "A-"), ("user", "C")]
)  # fmt: skip
def test_nothing_of_a_cell_outlives_its_service(kind: Kind, tier: str) -> None:
    ran = run_as(kind, SERVICE, tier)
    assert ran.returncode in (-9, 137), ran.stderr
    cell, guardian = ran.stdout.splitlines()
    pids = [int(pid) for pid in cell.split()]
    assert len(set(pids)) >= 7
    wait_until(lambda: not any(map(alive, pids)))
    # Where a namespace ends with its first process there is no need for one.
    assert bool(guardian) == (tier != "A")
    if guardian:
        wait_until(lambda: not alive(int(guardian)))


KILLED = SERVICE.replace(
    "assert cell.pid not in members or cell.pid == cell.leader\n",
    """os.kill(guardian_pid(), signal.SIGKILL)
    with use_tier(Tier(sys.argv[1])):
        await spawn(Policy(name="next", directory=directory / "next"), [sys.executable, "-c", "import time; time.sleep(60)"])
""",
)


def test_a_guardian_that_was_killed_is_followed_by_one_that_knows_as_much() -> None:
    assert KILLED != SERVICE
    ran = run_as("root", KILLED, "A-")
    assert ran.returncode in (-9, 137), ran.stderr
    cell, guardian = ran.stdout.splitlines()
    pids = [*map(int, cell.split()), int(guardian)]
    wait_until(lambda: not any(map(alive, pids)))
