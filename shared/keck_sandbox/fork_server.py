"""The service's end of a zygote: asking it for cells."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Callable, Sequence

from keck_sandbox.environment import cell_variables
from keck_sandbox.policy import Policy
from keck_sandbox.process import Process, spawn

__all__ = ["ForkServer"]

_FORK_S = 10.0
_START_S = 120.0


class ForkServer:
    """A zygote, itself a contained process, that starts cells in milliseconds.

    Limits are the zygote's: a cell inherits them. The service must have called :func:`become_subreaper`.
    """

    def __init__(self, process: Process, control: socket.socket) -> None:
        self.process = process
        self._control = control
        self._lock = asyncio.Lock()

    @classmethod
    async def start(cls, policy: Policy, argv: Callable[[int], Sequence[str]]) -> ForkServer:
        """Start a zygote and wait until it serves; `argv(fd)` is its command line, fd its control socket.

        Raises:
            OSError: it cannot be started, or ended before it served; the message holds what it printed.
            TimeoutError: it does not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            fd = theirs.fileno()
            process = await spawn(dataclasses.replace(policy, pass_fds=(fd,)), argv(fd))
        server = cls(process, ours)
        try:
            async with asyncio.timeout(_START_S):
                ready = await asyncio.get_running_loop().sock_recv(ours, 64)
            if not ready:
                raise ConnectionResetError(f"the zygote did not start: {process.output()[-1000:]}")
        except BaseException:
            await server.stop()
            raise
        return server

    async def fork(self, policy: Policy, argv: Sequence[str]) -> Process:
        """A cell that runs the zygote's entry with these arguments and the policy's descriptors.

        Raises:
            OSError: the zygote is gone.
            TimeoutError: it does not answer; it should be replaced.
        """
        policy.directory.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe2(os.O_CLOEXEC)
        request = {
            "argv": list(argv),
            "directory": str(policy.directory),
            "env": {**cell_variables(policy.directory), **policy.env},
            "parent": os.getpid(),
        }
        try:
            async with self._lock, asyncio.timeout(_FORK_S):
                socket.send_fds(self._control, [json.dumps(request).encode()], [write, *policy.pass_fds])
                answer = await asyncio.get_running_loop().sock_recv(self._control, 64)
            if not answer:
                raise ConnectionResetError("the zygote ended")
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return Process(int(answer), read, policy)

    async def stop(self) -> None:
        """End the zygote; its cells live on."""
        with contextlib.suppress(OSError):
            self._control.close()
        await self.process.kill()
