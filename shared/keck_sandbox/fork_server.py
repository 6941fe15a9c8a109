"""The service's end of a zygote: asking it for cells."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
from collections.abc import Callable, Sequence

from keck_sandbox.entering import Entrance
from keck_sandbox.inside.zygote import FORKED, READY
from keck_sandbox.policy import Policy
from keck_sandbox.process import Process, beginning, current_tier, spawn

__all__ = ["ForkServer"]

_FORK_S = 10.0
_START_S = 120.0
_REQUEST_BYTES = 256 * 1024


class ForkServer:
    """A zygote, itself a contained process, that starts cells in milliseconds."""

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
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
        with theirs:
            fd = theirs.fileno()
            process = await spawn(dataclasses.replace(policy, trust="zygote", pass_fds=(fd,)), argv(fd))
        server = cls(process, ours)
        try:
            async with asyncio.timeout(_START_S):
                ready = await asyncio.get_running_loop().sock_recv(ours, 64)
            if ready != READY:
                raise ConnectionResetError(f"the zygote did not start: {process.output()[-1000:]}")
        except BaseException:
            await server.stop()
            raise
        return server

    async def fork(self, policy: Policy, argv: Sequence[str]) -> Process:
        """A cell that runs the zygote's entry with these arguments and the policy's descriptors.

        Raises:
            OSError: the zygote is gone, or the cell cannot be made; the message says which step failed.
            TimeoutError: it does not answer; it should be replaced.
        """
        with beginning(policy, await current_tier()) as begun:
            request = json.dumps({"argv": list(argv), "spec": begun.spec.to_json()}).encode()
            async with self._lock, asyncio.timeout(_FORK_S):
                with Entrance() as entrance:
                    fds = [entrance.theirs.fileno(), begun.output, *policy.pass_fds]
                    socket.send_fds(self._control, [request], fds)
                    begun.entered = await entrance.hello()
                    if await asyncio.get_running_loop().sock_recv(self._control, 64) != FORKED:
                        raise ConnectionResetError("the zygote ended")
                    begun.status = await entrance.go()
        return begun.process()

    async def stop(self) -> None:
        """End the zygote; its cells live on."""
        with contextlib.suppress(OSError):
            self._control.close()
        await self.process.kill()
