"""The inside of a zygote: a process that has imported everything slow, and forks a cell per request.

A request is JSON (``argv``, ``spec``) with descriptors: the cell's status socket first, its stdout, then those its
program is given. The cell is a grandchild whose parent exits at once, so that the kernel hands it to the service
(a subreaper), which waits for it as for any child of its own; that the parent is gone is the zygote's answer.

Single-threaded, or the fork would copy locks that nobody ever opens again.
"""

from __future__ import annotations

import array
import gc
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from keck_sandbox.inside.enter import EXIT_FAILED, enter, fail, open_namespaces
from keck_sandbox.inside.linux import close_all_but, set_dumpable
from keck_sandbox.inside.spec import Spec

__all__ = ["FORKED", "READY", "serve"]

READY, FORKED = b"ready", b"forked"
_MAX_REQUEST = 256 * 1024
_MAX_FDS = 8


def serve(control: socket.socket, entry: Callable[[Sequence[str], Sequence[int]], None]) -> None:
    """Fork a cell per request until the service hangs up; in each cell run ``entry(argv, fds)``.

    Returns in the zygote only: a cell ends with its entry.
    """
    control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_REQUEST)
    set_dumpable(False)  # where a cell has this process's user, it could otherwise read it
    gc.collect()
    gc.freeze()  # a collection in a cell would copy every page it looks at
    control.send(READY)
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
            _fork_cell(json.loads(data), list(fds), entry)
        os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)
        control.send(FORKED)


def _fork_cell(
    request: Mapping[str, Any], fds: list[int], entry: Callable[[Sequence[str], Sequence[int]], None]
) -> NoReturn:
    """In the process between zygote and cell, and then in the cell."""
    status = socket.socket(fileno=fds[0])
    spec = Spec.from_json(request["spec"])
    code = EXIT_FAILED
    try:
        open_namespaces(spec)
        if os.fork() != 0:
            os._exit(0)
        _rearrange(fds)
        also = enter(spec, status)
    except OSError as error:
        fail(status, error)
    status.close()
    if also is not None:
        os.close(also)
    try:
        os.environ.clear()
        os.environ.update(spec.env)
        tempfile.tempdir = None  # it may have been looked up before the environment changed
        entry(request["argv"], fds[2:])
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


def _rearrange(fds: list[int]) -> None:
    """Nothing of the zygote's stays open: its control socket would fork more cells for whoever holds it."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(fds[1], 1)
    os.dup2(fds[1], 2)
    close_all_but({0, 1, 2, fds[0], *fds[2:]})
