"""What ends the cells of a service that was killed, where the kernel does not.

Every cell's first process dies with the service, and a pid namespace with its first process. On the tiers without one,
what that process had started would live on. So a small process of the service's own, in a process group of its own,
holds the end of a pipe: it is told of every such cell, and when the pipe breaks it kills those that are left.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path

__all__ = ["guard", "guardian_pid", "unguard"]

_PROGRAM = str(Path(__file__).parent / "inside" / "guardian.py")
_WORD = struct.Struct("<i")
_running: tuple[int, int] | None = None
"""Its pid, and the end of its pipe to write to."""
_guarded: set[int] = set()


def guard(leader: int) -> None:
    """From now on the cell of this leader, and the session that bears its number, ends with this process."""
    _guarded.add(leader)
    try:
        _tell(leader)
    except BrokenPipeError:  # somebody killed it: another takes over all that there is
        _forget()
        with contextlib.suppress(BrokenPipeError):
            _tell(*_guarded)


def unguard(leader: int) -> None:
    """That cell is over: its number may become another's."""
    _guarded.discard(leader)
    with contextlib.suppress(BrokenPipeError):
        _tell(-leader)


def guardian_pid() -> int | None:
    """Of the guardian, if there was need for one."""
    return None if _running is None else _running[0]


def _tell(*numbers: int) -> None:
    global _running  # noqa: PLW0603 - one for the process, as the process's end is what it waits for
    if _running is None:
        read, write = os.pipe2(os.O_CLOEXEC)
        argv = [sys.executable, "-I", "-S", _PROGRAM]
        actions = [(os.POSIX_SPAWN_DUP2, read, 0)]
        _running = os.posix_spawn(argv[0], argv, {}, file_actions=actions, setpgroup=0), write
        os.close(read)
    os.write(_running[1], b"".join(map(_WORD.pack, numbers)))


def _forget() -> None:
    global _running  # noqa: PLW0603
    if _running is not None:
        pid, write = _running
        _running = None
        os.close(write)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
