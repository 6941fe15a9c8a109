"""Run as ``python -I -S guardian.py``: numbers of cells come in on stdin; at its end, those that remain are killed.

A positive number is a cell's first process, and so its session and its group; a negative one is a cell that is over.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct

_WORD = struct.Struct("<i")
_ROUNDS = 50


def main() -> None:
    """Listen until the service is gone, then end its cells."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the service; its end is ours
    os.chdir("/")
    cells: set[int] = set()
    while len(word := os.read(0, _WORD.size)) == _WORD.size:
        (leader,) = _WORD.unpack(word)
        if leader > 0:
            cells.add(leader)
        else:
            cells.discard(-leader)
    for _ in range(_ROUNDS):  # a storm forks while we walk
        members = [pid for pid, session in _sessions() if session in cells]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _sessions() -> list[tuple[int, int]]:
    """(pid, session) of every process that lives."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    found.append((int(entry), int(fields[3])))
    return found


if __name__ == "__main__":
    main()
