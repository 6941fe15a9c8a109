"""The service's half of entering a cell: hears of it, becomes its parent, lets it go on."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
from dataclasses import dataclass
from typing import Self

from keck_sandbox.inside.enter import BOUND, GO, HELLO, INIT, RUNS

__all__ = ["Entered", "Entrance", "readable"]

_CREDENTIALS = struct.Struct("iII")
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * 4)


@dataclass(frozen=True, slots=True)
class Entered:
    """A process that is ready to become a cell; numbers as this process sees them, by the kernel's word."""

    pid: int
    """The child of ours to wait for: the init of its namespace, or the cell itself."""
    leader: int
    """The cell's first process."""
    work_fd: int

    def abandon(self) -> None:
        """End and reap it: it will not be a cell."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.work_fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class Entrance:
    """A status socket: `theirs` goes into the new process, and is closed here once it is there."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self.theirs.close()

    async def hello(self) -> Entered:
        """The cell's first word.

        Raises:
            OSError: a step failed.
        """
        self.theirs.close()
        data, pid, fds = await self._receive()
        waited = pid
        if data == INIT:
            data, pid, fds = await self._receive()
        if data == HELLO and pid > 0 and len(fds) == 1:
            return Entered(waited, pid, fds[0])
        raise OSError(_told(data))

    async def go(self) -> socket.socket:
        """Once its first parent is gone: let the cell go on, and wait until its program runs.

        Returns:
            the socket on which its init tells how it ended; nothing is told where there is none.

        Raises:
            OSError: a step failed.
        """
        self._ours.send(GO)
        data, _, _ = await self._receive()
        if data == BOUND:
            data, _, _ = await self._receive()
            if data in (RUNS, b""):  # or its process has ended, which its exit tells
                return self._ours.dup()
        raise OSError(_told(data))

    async def _receive(self) -> tuple[bytes, int, list[int]]:
        await readable(self._ours.fileno())
        data, ancillary, _, _ = self._ours.recvmsg(8192, _ROOM, socket.MSG_CMSG_CLOEXEC)
        pid, fds = 0, array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack(payload)[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload)
        return data, pid, list(fds)


async def readable(fd: int) -> None:
    """Wait until there is something to read at `fd`; at the descriptor of a process: until it has ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


def _told(data: bytes) -> str:
    text = data.decode("utf-8", "replace").removeprefix("error: ")
    return f"the cell could not be entered: {text or 'its process ended'}"
