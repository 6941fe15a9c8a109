"""Stopping every process of a cell, confirmed, and letting it go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from keck_sandbox.reap import cell_members

__all__ = ["Stop", "freeze", "thaw"]

_STOPPED = (b"T", b"t")
_GONE = (b"Z", b"X")
_DYING_S = 0.1

_Thread = tuple[int, str]
_Look = tuple[bool, bytes]
"""Whether it stands still, and how often it was given a processor."""


class Stop:
    """What a confirmed stop looked like, to tell afterwards whether it lasted."""

    def __init__(self, looks: dict[_Thread, _Look]) -> None:
        self._looks = looks

    def lasted(self) -> bool:
        """Whether no thread that stood still has had a processor since, and all of them still stand.

        A stop that somebody else ended leaves a trace even where the process has stopped itself again: the kernel
        counts how often each thread was given a processor. What has been killed meanwhile tells nothing.
        """
        until = time.monotonic() + _DYING_S
        while self._awake():
            if time.monotonic() > until:
                return False
        return True

    def _awake(self) -> bool:
        """Whether a thread that is still there is not what it was; who is killed runs to its end."""
        now = _looks({pid for pid, _ in self._looks})
        return any(now.get(thread, look) != look for thread, look in self._looks.items())


def _looks(members: set[int]) -> dict[_Thread, _Look]:
    threads = [(pid, thread) for pid in members for thread in _threads(pid)]
    seen = {(pid, thread): _look(f"/proc/{pid}/task/{thread}") for pid, thread in threads}
    return {thread: look for thread, look in seen.items() if look is not None}


def _all_stand(looks: dict[_Thread, _Look]) -> bool:
    return all(stands for stands, _ in looks.values())


def _look(task: str) -> _Look | None:
    """None where the thread is gone or going."""
    try:
        with open(f"{task}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in _GONE:
        return None
    return fields[0] in _STOPPED, _turns(task)


def _turns(task: str) -> bytes:
    """How often a processor was given to it. Not how long: that is added up after it has been seen to stand still."""
    try:
        with open(f"{task}/schedstat", "rb") as file:
            ran_ns, _, turns = file.read().split()
    except (OSError, ValueError):
        return b""
    return turns if ran_ns != b"0" else b""  # a kernel that does not count: its state has to do


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def freeze(leader: int, *, timeout_s: float = 1.0, family: bool = True) -> Stop | None:
    """Stop a cell and wait until each of its threads has stopped.

    Args:
        leader: pid of the cell's first process.
        timeout_s: how long to wait, in seconds; a thread inside a driver call stops when it comes back.
        family: also stop descendants; False where the caller has just looked and found none.

    Returns:
        the stop, or None where not everything stood still in time.
    """
    until = time.monotonic() + timeout_s
    members = cell_members(leader) if family else {leader}
    while True:
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        while not _all_stand(looks := _looks(members)):
            if time.monotonic() > until:
                return None
        # A child forked between the look and the stop would run on: look again until nothing is new.
        found = cell_members(leader) if family else members
        if found <= members:
            return Stop(looks)
        members = found


def thaw(leader: int, *, family: bool = True) -> None:
    """Let a frozen cell go on."""
    for pid in cell_members(leader) if family else {leader}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCONT)
