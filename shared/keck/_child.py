"""Runs a command that dies with the process that started it; executed as a file, imports nothing of Keck.

``python -I _child.py PARENT_PID SIGNAL COMMAND…``. Linux keeps the parent-death signal over ``exec``. Set here
and not between fork and exec of the parent, which has threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, make sure that the parent did not die before that, and become the command."""
    parent_pid, signal_number, *command = sys.argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != int(parent_pid):
            sys.exit("the parent is gone already")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
