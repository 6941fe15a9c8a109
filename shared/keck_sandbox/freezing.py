"""Stopping every process of a cell, confirmed, and letting it go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from keck_sandbox.reap import cell_members

__all__ = ["freeze", "thaw"]

_STOPPED = (b"T", b"t", b"Z", b"X")


def _threads_stopped(pid: int) -> bool:
    return all(_stopped(f"/proc/{pid}/task/{thread}/stat") for thread in _threads(pid))


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []  # gone: as stopped as can be


def _stopped(stat: str) -> bool:
    try:
        with open(stat, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in _STOPPED
    except OSError:
        return True  # this thread is gone; its siblings may well be running


def freeze(leader: int, *, timeout_s: float = 1.0, family: bool = True) -> bool:
    """Stop a cell and wait until each of its threads has stopped.

    Args:
        leader: pid of the cell's first process.
        timeout_s: how long to wait, in seconds; a thread inside a driver call stops when it comes back.
        family: also stop descendants; False where the caller has just looked and found none.

    Returns:
        whether everything stood still in time.
    """
    until = time.monotonic() + timeout_s
    members = cell_members(leader) if family else {leader}
    while True:
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        while not all(_threads_stopped(pid) for pid in members):
            if time.monotonic() > until:
                return False
        # A child forked between the look and the stop would run on: look again until nothing is new.
        found = cell_members(leader) if family else members
        if found <= members:
            return True
        members = found


def thaw(leader: int, *, family: bool = True) -> None:
    """Let a frozen cell go on."""
    for pid in cell_members(leader) if family else {leader}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCONT)
