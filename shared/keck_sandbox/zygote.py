"""The inside of a zygote: a process that has imported everything slow, and forks a cell per request.

A request is JSON (``argv``, ``directory``, ``env``, ``parent``) with descriptors: the cell's stdout first, then
those its program is given. The cell is a grandchild whose parent exits at once, so that the kernel hands it to
the service (a subreaper), which waits for it as for any child of its own.

Standard library only; single-threaded, or the fork would copy locks that nobody ever opens again.
"""

from __future__ import annotations

import array
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["serve"]

_PR_SET_PDEATHSIG = 1
_MAX_REQUEST = 64 * 1024
_MAX_FDS = 8
_ADOPTION_S = 5.0
_EXIT_FAILED = 125


def serve(control: socket.socket, entry: Callable[[Sequence[str], Sequence[int]], None]) -> None:
    """Fork a cell per request until the service hangs up; in each cell run ``entry(argv, fds)``.

    Returns in the zygote only: a cell ends with its entry.
    """
    gc.collect()
    gc.freeze()  # a collection in a cell would copy every page it looks at
    control.send(b"ready")
    while True:
        data, ancillary, _, _ = control.recvmsg(
            _MAX_REQUEST, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload)
        between = os.fork()
        if between == 0:
            if os.fork() == 0:
                _become_cell(json.loads(data), list(fds), control, entry)
            os._exit(0)
        os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)


def _become_cell(
    request: dict[str, Any],
    fds: list[int],
    control: socket.socket,
    entry: Callable[[Sequence[str], Sequence[int]], None],
) -> NoReturn:
    code = _EXIT_FAILED
    try:
        os.setsid()
        _bind_to_parent(request["parent"])
        control.send(str(os.getpid()).encode())
        output, *given = fds
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _close_all_but({0, 1, 2, *given})
        os.chdir(request["directory"])
        os.environ.update(request["env"])
        tempfile.tempdir = None  # it may have been looked up before the environment changed
        entry(request["argv"], given)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - the cell's last words, then its end
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the zygote's own frames and exit handlers are not the cell's to run.
        os._exit(code)


def _bind_to_parent(parent: int) -> None:
    """Die with the service. Its death is only noticed once we are its child, so wait for that first."""
    until = time.monotonic() + _ADOPTION_S
    while os.getppid() != parent:
        if time.monotonic() > until:
            os._exit(_EXIT_FAILED)
        time.sleep(0.0002)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(_EXIT_FAILED)


def _close_all_but(keep: set[int]) -> None:
    low = 0
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        if fd > low:  # os.closerange(n, n) closes everything from n on (seen in CPython 3.11)
            os.closerange(low, fd)
        low = fd + 1
