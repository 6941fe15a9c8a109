"""Whole cells: ending what left its group, stopping and continuing every process and thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from keck.testing import async_wait_until
from keck_sandbox import Policy, Process, freeze, spawn, thaw
from keck_sandbox.reap import cell_members

CROWD = """
import os, signal, threading, time
def spin():
    while True: time.sleep(0.0005)
for leaves in (False, True, False):
    if os.fork() == 0:
        if leaves: os.setsid()
        threading.Thread(target=spin).start()
        spin()
for _ in range(3): threading.Thread(target=spin).start()
print("ready", flush=True)
spin()
"""

STRAYS = """
import asyncio, json, os, signal, sys
from pathlib import Path
from keck_sandbox import Policy, Tier, kill_strays, set_tier, spawn
from keck.testing import async_wait_until

DAEMON = '''
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
os.wait()
'''

async def main():
    set_tier(Tier.X)  # where there is no pid namespace, which would have ended it
    here = Path.cwd()
    known = await spawn(Policy(name="known", directory=here), [sys.executable, "-c", "import signal; signal.pause()"])
    cell = await spawn(Policy(name="cell", directory=here / "c"), [sys.executable, "-c", DAEMON])
    await cell.wait()
    daemon = int(cell.output())
    def parent():
        return int(open(f"/proc/{daemon}/stat").read().rpartition(")")[2].split()[1])
    await async_wait_until(lambda: parent() == os.getpid())
    outlived = os.path.exists(f"/proc/{daemon}")
    killed = await kill_strays({known.pid})
    print(json.dumps({"outlived": outlived, "killed": killed, "gone": not os.path.exists(f"/proc/{daemon}"),
                      "known": known.running, "again": await kill_strays({known.pid})}))
    await known.kill()

asyncio.run(main())
"""


async def crowd(directory: Path) -> Process:
    """A cell of four processes, one in a session of its own, with threads."""
    process = await spawn(
        Policy(name="crowd", directory=directory), [sys.executable, "-I", "-S", "-c", CROWD]
    )
    await async_wait_until(lambda: "ready" in process.output() and len(cell_members(process.leader)) == 4)
    await async_wait_until(lambda: len(states(process.leader)) == 10)
    return process


def states(leader: int) -> list[str]:
    """The state of every thread of a cell."""
    found = []
    for pid in cell_members(leader):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


async def test_a_frozen_cell_stands_still_to_the_last_thread(tmp_path: Path) -> None:
    process = await crowd(tmp_path)
    try:
        for _ in range(5):
            assert freeze(process.leader, timeout_s=10.0)
            assert set(states(process.leader)) == {"T"}
            thaw(process.leader)
            await async_wait_until(lambda: "T" not in states(process.leader))
    finally:
        await process.kill()


async def test_freezing_only_the_leader_leaves_its_children_alone(tmp_path: Path) -> None:
    process = await crowd(tmp_path)
    try:
        assert freeze(process.leader, timeout_s=10.0, family=False)
        assert states(process.leader).count("T") == 4
    finally:
        await process.kill()


async def test_a_stop_lasts_until_somebody_ends_it(tmp_path: Path) -> None:
    process = await crowd(tmp_path)
    try:
        stop = freeze(process.leader, timeout_s=10.0)
        assert stop is not None
        assert stop.lasted()
        assert stop.lasted()
        thaw(process.leader)
        await async_wait_until(lambda: "T" not in states(process.leader))
        assert not stop.lasted()
    finally:
        await process.kill()


async def test_a_stop_that_was_ended_and_taken_up_again_did_not_last(tmp_path: Path) -> None:
    process = await crowd(tmp_path)
    try:
        for _ in range(20):
            stop = freeze(process.leader, timeout_s=10.0)
            assert stop is not None
            assert stop.lasted()
            thaw(process.leader)
            assert freeze(process.leader, timeout_s=10.0) is not None
            assert set(states(process.leader)) == {"T"}
            assert not stop.lasted()
            thaw(process.leader)
    finally:
        await process.kill()


async def test_what_is_gone_counts_as_stopped(tmp_path: Path) -> None:
    process = await spawn(Policy(name="x", directory=tmp_path), [sys.executable, "-I", "-S", "-c", ""])
    await process.wait()
    assert freeze(process.leader)
    thaw(process.leader)


async def test_a_kill_ends_the_whole_tree_frozen_or_not(tmp_path: Path) -> None:
    for frozen in (False, True):
        process = await crowd(tmp_path)
        members = cell_members(process.leader)
        if frozen:
            assert freeze(process.leader, timeout_s=10.0)
        await process.kill()
        await async_wait_until(lambda members=members: not any(map(_lives, members)))


def test_a_daemon_that_left_the_cell_is_found_and_ended(tmp_path: Path) -> None:
    outer = subprocess.run(
        [sys.executable, "-c", STRAYS], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert outer.returncode == 0, outer.stderr
    found = json.loads(outer.stdout)
    assert found.pop("killed") >= 1  # a child of the daemon's may still have been waiting to be reaped
    assert found == {"outlived": True, "gone": True, "known": True, "again": 0}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
