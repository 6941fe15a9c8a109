"""Cells forked from a zygote: as contained as spawned ones, and a hundred times faster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keck.testing import async_wait_until, wait_until
from keck_sandbox import ForkServer, Policy, Process, become_subreaper

ZYGOTE = """
import json, os, resource, signal, socket, sys
from keck_sandbox.inside.zygote import serve

def look(fds):
    return {
        "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0), "cwd": os.getcwd(), "env": dict(os.environ),
        "fds": sorted(map(int, os.listdir("/proc/self/fd"))), "given": list(fds),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "no_new_privs": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0],
    }

def entry(argv, fds):
    if argv[0] == "look": print(json.dumps(look(fds)))
    elif argv[0] == "pause":
        print("here", flush=True)
        signal.pause()
    elif argv[0] == "raise": raise ValueError("in the cell")
    elif argv[0] == "exit": sys.exit(int(argv[1]))
    elif argv[0] == "speak": os.write(fds[0], b"word")

if sys.argv[1] == "broken": sys.exit("cannot begin")
serve(socket.socket(fileno=int(sys.argv[1])), entry)
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ForkServer]:
    become_subreaper()
    home = tmp_path / "zygote"
    home.mkdir()
    policy = Policy(name="zygote", directory=home, env={"OF_ZYGOTE": "1"})
    found = await ForkServer.start(policy, lambda fd: [sys.executable, "-c", ZYGOTE, str(fd)])
    yield found
    await found.stop()


def cell(tmp_path: Path, name: str = "cell", **changes: Any) -> Policy:
    return Policy(name="cell", directory=tmp_path / name, **changes)


async def ended(process: Process) -> int:
    found = await process.wait()
    assert found is not None
    return found.code


async def test_a_cell_is_a_contained_child_of_the_service(server: ForkServer, tmp_path: Path) -> None:
    process = await server.fork(cell(tmp_path, env={"OF_CELL": "2"}, open_files=100), ["look"])
    assert await ended(process) == 0, process.output()
    found = json.loads(process.output())
    assert found["pid"] == found["sid"]
    assert found["files"] == [100, 100]
    assert found["no_new_privs"] == "1"
    assert found["cwd"] == str(tmp_path / "cell" / "cell")
    assert found["env"]["OF_CELL"] == "2"
    assert "OF_ZYGOTE" not in found["env"]
    assert found["env"]["HOME"] == str(tmp_path / "cell" / "cell")
    assert found["env"]["TMPDIR"] == str(tmp_path / "cell" / "cell" / "tmp")
    assert len(found["fds"]) == 4  # the standard three, and the listing itself


async def test_descriptors_are_passed_on_and_only_those(server: ForkServer, tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        process = await server.fork(cell(tmp_path, pass_fds=(write,)), ["speak"])
        assert await ended(process) == 0, process.output()
        os.close(write)
        assert os.read(read, 10) == b"word"
        assert os.read(read, 10) == b""  # nobody else holds the other end, the zygote neither
    finally:
        os.close(read)


async def test_ends_and_outputs_are_each_cells_own(server: ForkServer, tmp_path: Path) -> None:
    raising = await server.fork(cell(tmp_path, "a"), ["raise"])
    leaving = await server.fork(cell(tmp_path, "b"), ["exit", "9"])
    pausing = await server.fork(cell(tmp_path, "c"), ["pause"])
    assert await ended(raising) == 125
    assert "ValueError: in the cell" in raising.output()
    assert await ended(leaving) == 9
    assert leaving.output() == ""
    await async_wait_until(lambda: pausing.output() == "here\n")
    assert (await pausing.kill()).signal_name == "SIGKILL"


async def test_forking_is_fast(server: ForkServer, tmp_path: Path) -> None:
    took = []
    for number in range(10):
        started = time.monotonic()
        process = await server.fork(cell(tmp_path, str(number)), ["exit", "0"])
        took.append(time.monotonic() - started)
        await process.wait()
    assert min(took) < 0.05


async def test_no_descriptor_is_left_behind(server: ForkServer, tmp_path: Path) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd")) + len(os.listdir(f"/proc/{server.process.pid}/fd"))

    before = held()
    for number in range(6):
        await (await server.fork(cell(tmp_path, str(number)), ["exit", "0"])).kill()
    # The zygote closes its copies a moment after it has answered.
    await async_wait_until(lambda: held() <= before)


async def test_cells_outlive_the_zygote_which_then_forks_no_more(server: ForkServer, tmp_path: Path) -> None:
    process = await server.fork(cell(tmp_path), ["pause"])
    await async_wait_until(lambda: process.output() == "here\n")
    os.kill(server.process.pid, signal.SIGKILL)
    await server.process.wait()
    with pytest.raises(OSError):  # noqa: PT011 - broken pipe or connection reset, as the race goes
        await server.fork(cell(tmp_path), ["pause"])
    assert process.running
    await process.kill()


async def test_a_zygote_that_cannot_begin_says_why(tmp_path: Path) -> None:
    policy = Policy(name="zygote", directory=tmp_path)
    with pytest.raises(OSError, match="cannot begin"):
        await ForkServer.start(policy, lambda fd: [sys.executable, "-c", ZYGOTE, "broken"])


def test_cells_and_zygote_die_with_the_service(tmp_path: Path) -> None:
    service = f"""
import asyncio, os, sys
from pathlib import Path
from keck.testing import async_wait_until, wait_until
from keck_sandbox import ForkServer, Policy, become_subreaper
async def main():
    become_subreaper()
    here = Path.cwd()
    zygote = {ZYGOTE!r}
    server = await ForkServer.start(Policy(name="z", directory=here),
                                    lambda fd: [sys.executable, "-c", zygote, str(fd)])
    process = await server.fork(Policy(name="c", directory=here / "c"), ["pause"])
    await async_wait_until(lambda: process.output() == "here\\n")
    print(process.leader, server.process.pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    outer = subprocess.run(
        [sys.executable, "-c", service], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert outer.returncode == -signal.SIGKILL, outer.stderr
    pids = [int(word) for word in outer.stdout.split()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(_lives, pids)))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
