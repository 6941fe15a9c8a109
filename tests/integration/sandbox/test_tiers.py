"""Every tier that can be had here: its cells come up, hold what is thrown at them, and end whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keck.testing import async_wait_until
from keck_sandbox import Policy, Tier, spawn, use_tier
from keck_sandbox.inside import landlock, seccomp
from keck_sandbox.ladder import TooWeak, climb
from keck_sandbox.reap import cell_members

TIERS = [tier for tier in Tier if tier is not Tier.X]


@pytest.mark.parametrize("tier", TIERS)
async def test_a_tier_holds_every_probe_or_says_why_it_cannot_be_had(tier: Tier) -> None:
    previous = Tier.X
    with use_tier(previous):
        try:
            standing = await climb(at_least=Tier.X, only=tier)
        except TooWeak as error:
            pytest.skip(str(error).splitlines()[1].strip())
    assert standing.level is tier
    assert standing.probes > 100
    assert (
        standing.properties["fs_read"] == standing.properties["net"] == standing.properties["signals"] == "ok"
    )


async def test_a_floor_that_cannot_be_reached_is_refused_with_what_failed_and_what_helps() -> None:
    impossible = Tier.C if os.getuid() == 0 else Tier.B
    with pytest.raises(TooWeak, match=r"What helps:[\s\S]*KECK_SANDBOX_MIN=X"):
        await climb(only=impossible)


async def test_a_daemon_that_left_the_session_is_gone_when_its_cell_is(tmp_path: Path) -> None:
    code = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print('daemon', flush=True)
        signal.pause()
    os._exit(0)
signal.pause()
"""
    with use_tier(Tier.A):
        process = await spawn(Policy(name="x", directory=tmp_path), [sys.executable, "-I", "-S", "-c", code])
    await async_wait_until(lambda: "daemon" in process.output())
    members = cell_members(process.pid)
    assert len(members) >= 3  # its init, the first process and the daemon
    await process.kill()
    # Not soon afterwards, but by now: the kernel ends a namespace before its init counts as ended.
    assert not members & set(_processes())


async def test_the_work_directory_has_a_size_and_a_number_of_files(tmp_path: Path) -> None:
    code = """
made = 0
try:
    for number in range(1000):
        open(str(number), 'w').close()
        made += 1
except OSError as error:
    print(made < 200, error.strerror)
import os
for number in range(made): os.unlink(str(number))
try:
    with open('large', 'wb') as file: file.write(bytes(4 << 20))
except OSError as error:
    print(error.strerror)
"""
    with use_tier(Tier.A):
        policy = Policy(name="x", directory=tmp_path, work_bytes=1 << 20, work_inodes=100)
        process = await spawn(policy, [sys.executable, "-I", "-S", "-c", code])
    await process.wait(20)
    assert process.output().splitlines() == ["True No space left on device", "No space left on device"]
    await process.kill()


async def test_processes_have_a_limit(tmp_path: Path) -> None:
    code = """
import os, signal
made = 0
try:
    while made < 200:
        if os.fork() == 0: signal.pause()
        made += 1
except OSError as error:
    print(made, error.strerror)
"""
    with use_tier(Tier.A):
        policy = Policy(name="x", directory=tmp_path, processes=50)
        process = await spawn(policy, [sys.executable, "-I", "-S", "-c", code])
    await process.wait(20)
    made, told = process.output().split(None, 1)
    assert int(made) < 50
    assert "temporarily unavailable" in told
    await process.kill()


def test_a_cell_does_not_see_the_directory_that_the_service_was_started_in(tmp_path: Path) -> None:
    program = "from keck_sandbox.environment import import_paths; print(*import_paths(), sep='\\n')"
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.splitlines()
    assert str(tmp_path) not in seen
    assert seen


def test_the_filter_is_a_program_the_kernel_takes_and_no_longer_than_it_may_be() -> None:
    for same in (False, True):
        program = seccomp.compile_filter(sockets="driver", same_session=same, same_user=same, truncate=same)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def test_landlock_tells_its_version() -> None:
    assert landlock.abi() >= 0
