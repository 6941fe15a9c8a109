"""Finding and ending every process of a cell, also those that left its process group."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable

from keck_sandbox.inside.processes import processes

__all__ = [
    "become_subreaper",
    "cell_members",
    "kill_all",
    "kill_strays",
    "proportional_bytes",
    "resident_bytes",
]

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 20
_ROUND_S = 0.005


def become_subreaper() -> None:
    """Let orphans of our cells become our children, so that they can be seen and ended. Once per service."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cell_members(leader: int) -> set[int]:
    """The leader of a cell, its descendants, and whoever shares its session."""
    known = list(processes())
    members = {leader} | {each.pid for each in known if each.session == leader}
    while True:
        more = {each.pid for each in known if each.parent in members} - members
        if not more:
            return members
        members |= more


def resident_bytes(leader: int) -> int:
    """Private and shared memory that a leader and its descendants hold; what they map of files is not counted.

    A page that several hold is counted for each: quick to read, and never too little.
    """
    return sum(_bytes_in(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:")) for pid in _family(leader))


def proportional_bytes(leader: int) -> int:
    """The same with each page counted once, which the kernel takes milliseconds to add up for a large process."""
    return sum(_bytes_in(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) for pid in _family(leader))


def _family(leader: int) -> list[int]:
    family = [leader]
    for pid in family:  # which grows meanwhile
        family += _children(pid)
    return family


def _bytes_in(file_name: str, names: tuple[str, ...]) -> int:
    try:
        with open(file_name, encoding="ascii", errors="replace") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(names))
    except OSError:
        return 0  # gone meanwhile


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL each; those already gone are no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


async def kill_strays(known: Iterable[int]) -> int:
    """End what reparented to this service out of cells that are over; returns how many there were.

    A stray is a child of ours that nobody waits for and that is not of our own session: cells start sessions,
    the service's own helpers do not. One that does not end, as inside a driver call, is left to the next look.
    """
    keep, mine, session = set(known), os.getpid(), os.getsid(0)
    killed: set[int] = set()
    for _ in range(_ROUNDS):  # a storm forks while we walk: again, a bounded number of times
        strays = [
            each.pid
            for each in processes()
            if each.parent == mine and each.session != session and each.pid not in keep
        ]
        if not strays:
            break
        for pid in strays:
            kill_all(cell_members(pid) - keep - {mine})
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
        killed.update(strays)
        await asyncio.sleep(_ROUND_S)
    return len(killed)
