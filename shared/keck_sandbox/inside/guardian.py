"""Run as ``python -I -S guardian.py``: numbers of cells come in on stdin; at its end, those that remain are killed.

A positive number is a cell's first process, and so its session and its group; a negative one is a cell that is over.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys

_WORD = struct.Struct("<i")
_ROUNDS = 50


def main() -> None:
    """Listen until the service is gone, then end its cells."""
    # Started without the site module, as the launcher is.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from keck_sandbox.inside.processes import processes  # noqa: PLC0415

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
        members = [each.pid for each in processes() if each.session in cells and each.state != "Z"]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
