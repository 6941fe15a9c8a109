"""What ends the cells of a service that was killed, where the kernel does not.

Every cell's first process dies with the service, and a pid namespace with its first process. On the tiers without one,
what that process had started would live on. So a small process of the service's own, in a process group of its own,
holds the end of a pipe: it is told of every such cell, and when the pipe breaks it kills those that are left.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["guard", "guardian_pid", "unguard"]

_PROGRAM = str(Path(__file__).parent / "inside" / "guardian.py")
_WORD = struct.Struct("<i")
_running: tuple[subprocess.Popen[bytes], int] | None = None


def guard(leader: int) -> None:
    """From now on the cell of this leader, and the session that bears its number, ends with this process."""
    for _ in range(2):  # a guardian that is gone, because somebody killed it, is replaced once
        try:
            os.write(_pipe(), _WORD.pack(leader))
        except BrokenPipeError:
            _forget()
        else:
            return


def unguard(leader: int) -> None:
    """That cell is over: its number may become another's."""
    if _running is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(_running[1], _WORD.pack(-leader))


def guardian_pid() -> int | None:
    """Of the guardian, if there was need for one."""
    return None if _running is None else _running[0].pid


def _pipe() -> int:
    global _running  # noqa: PLW0603 - one for the process, as the process's end is what it waits for
    if _running is None:
        read, write = os.pipe2(os.O_CLOEXEC)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _PROGRAM],
            stdin=read,
            stdout=subprocess.DEVNULL,
            close_fds=True,
            cwd="/",
            env={},
            process_group=0,
        )
        os.close(read)
        _running = process, write
    return _running[1]


def _forget() -> None:
    global _running  # noqa: PLW0603
    if _running is not None:
        process, write = _running
        _running = None
        os.close(write)
        process.wait()
