"""Builds forked from a process that has torch imported: 4 CPU seconds less for each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from keck.logs import logger
from keck_compiler.toolchain import Toolchain
from keck_sandbox import ForkServer, Policy, Process

__all__ = ["BuildZygote"]

_FORKS_PER_ZYGOTE = 400
_COLD_S = 600.0


class BuildZygote:
    """A zygote of builds, started when the first build asks and replaced when it fails or has forked enough.

    Args:
        toolchain: what builds are made with.
        directory: of the service; the zygote's own is made below it.
    """

    def __init__(self, toolchain: Toolchain, directory: Path) -> None:
        self._toolchain = toolchain
        self._directory = directory / "zygote"
        self._lean: Path | None = None
        self._server: ForkServer | None = None
        self._forked = 0
        self._cold_until = 0.0
        self._lock = asyncio.Lock()

    async def preload(self, lean: Path) -> None:
        """From now on have the files of a lean toolchain read before forking."""
        async with self._lock:
            if lean != self._lean:
                self._lean = lean
                await self._retire()

    async def fork(self, policy: Policy, arguments: Sequence[str]) -> Process | None:
        """A cell that runs ``keck_compiler.cell.build`` with `arguments`; None: it has to be started cold."""
        async with self._lock:
            if time.monotonic() < self._cold_until:
                return None
            if self._forked >= _FORKS_PER_ZYGOTE:
                await self._retire()
            try:
                if self._server is None:
                    self._server = await self._start()
                self._forked += 1
                return await self._server.fork(policy, arguments)
            except (OSError, TimeoutError) as error:
                output = self._server.process.output()[-1000:] if self._server is not None else ""
                logger().warning("build_zygote_failed", error=str(error), output=output)
                self._cold_until = time.monotonic() + _COLD_S
                await self._retire()
                return None

    async def close(self) -> None:
        """End the zygote; builds that it forked live on."""
        async with self._lock:
            await self._retire()

    async def _start(self) -> ForkServer:
        self._directory.mkdir(exist_ok=True)
        home = self._toolchain.cuda_home
        policy = Policy(
            name="build-zygote",
            directory=self._directory,
            env=self._toolchain.environment(),
            readable=(*((home,) if home else ()), *((self._lean,) if self._lean else ())),
        )
        lean = [str(self._lean)] if self._lean is not None else []
        argv = (sys.executable, "-P", "-m", "keck_compiler.cell.zygote")
        return await ForkServer.start(policy, lambda fd: [*argv, str(fd), *lean])

    async def _retire(self) -> None:
        server, self._server, self._forked = self._server, None, 0
        if server is not None:
            await server.stop()
