"""Runner processes kept ready: torch imported, the device's context made, no user code yet."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keck.errors import Retry
from keck.logs import logger
from keck.settings import Settings
from keck_executor.placement import Placement
from keck_executor.quarantine import Quarantine
from keck_executor.socketpair import pair, receive
from keck_sandbox import ForkServer, Policy, Process, spawn
from keck_sandbox.collect import remove_tree

__all__ = ["PooledRunner", "RunnerPool"]

_TRIES = 3
_FORKS_PER_ZYGOTE = 400
_COLD_S = 600.0
_WARM_UP_S = 120.0


@dataclass(slots=True)
class PooledRunner:
    """One contained process, the executor's end of its socket (for the judge), and its private directory."""

    process: Process
    sock: socket.socket
    directory: Path

    async def end(self, quarantine: Quarantine) -> None:
        """Kill its cell, wait until all of it is gone, and remove what it left.

        A cell that does not end, as one inside a driver call may not, is waited for in quarantine.
        """
        self.sock.close()
        reason = f"process {self.process.leader} of a check does not end"
        await quarantine.end(self.process.kill(), self.process, reason=reason, then=self._remove)

    async def _remove(self) -> None:
        # Candidates leave trees of any shape behind; what cannot be removed is told, and costs only disk.
        left = await asyncio.to_thread(remove_tree, self.directory)
        if left:
            logger().warning("directory_left", path=self.directory.name, left=list(left[:5]))


class RunnerPool:
    """Hands out a fresh runner for each side of each check; a used one never comes back.

    Args:
        directory: private directories are made below it.
        quarantine: where runners that do not end are waited for.
    """

    def __init__(
        self, settings: Settings, placement: Placement, directory: Path, quarantine: Quarantine
    ) -> None:
        self._settings = settings
        self._quarantine = quarantine
        self._placement = placement
        self._directory = directory
        self._spares: list[PooledRunner] = []
        self._zygote: ForkServer | None = None
        self._forked = 0
        self._cold_until = 0.0
        """Until then runners are started one by one, because a forked one did not come up."""

    @property
    def pids(self) -> set[int]:
        """Leaders of the cells that are to live on: the spares' and the zygote's."""
        zygote = {self._zygote.process.pid} if self._zygote is not None else set()
        return zygote | {spare.process.pid for spare in self._spares}

    async def take(self, role: Literal["candidate", "reference"]) -> PooledRunner:
        """A warm runner that has seen no user code.

        Raises:
            Retry: runners do not come up; what they printed is logged.
        """
        for _ in range(_TRIES + len(self._spares)):
            runner = self._spares.pop(0) if self._spares else await self._start()
            if await self._is_warm(runner):
                if runner.process.running:
                    return runner
                await runner.end(
                    self._quarantine
                )  # something ended it while it waited: that is not the next check's doing
                continue
            logger().warning("runner_did_not_start", output=runner.process.output()[-1000:], role=role)
            await runner.end(self._quarantine)
            # Whatever is wrong with forking here, starting afresh may not have it.
            self._cold_until = time.monotonic() + _COLD_S
        raise Retry("no runner process comes up on this executor", delay_s=5.0, failure_kind="runner_lost")

    async def _is_warm(self, runner: PooledRunner) -> bool:
        """Wait for the first word of a runner, which has no user code in it yet and so is believed."""
        try:
            return bool(await receive(runner.sock, timeout_s=_WARM_UP_S))
        except TimeoutError:
            return False

    async def refill(self) -> None:
        """Start as many spares as the settings ask for; they warm up by themselves."""
        while len(self._spares) < self._settings.spares:
            self._spares.append(await self._start())

    async def close(self) -> None:
        """End every spare, and the zygote."""
        spares, self._spares = self._spares, []
        await asyncio.gather(*(spare.end(self._quarantine) for spare in spares))
        await self._retire_zygote()

    async def _start(self) -> PooledRunner:
        directory = Path(tempfile.mkdtemp(prefix="runner-", dir=self._directory))
        ours, theirs = pair()
        ours.setblocking(False)
        with theirs:
            policy = self._policy(directory, pass_fds=(theirs.fileno(),))
            process = await self._fork(policy) or await self._spawn_cold(policy)
        return PooledRunner(process, ours, directory)

    def _policy(self, directory: Path, *, pass_fds: tuple[int, ...] = ()) -> Policy:
        return Policy(
            name="runner",
            directory=directory,
            env=self._placement.env,
            devices=self._placement.devices,
            shares_user=True,
            pass_fds=pass_fds,
            memory_bytes=self._settings.runner_memory_bytes,
            data_bytes=self._settings.runner_memory_bytes,
            open_files=4096,
        )

    async def _fork(self, policy: Policy) -> Process | None:
        """A runner from the zygote; None where there is none to be had, and it must be started cold."""
        if time.monotonic() < self._cold_until:
            return None
        if self._forked >= _FORKS_PER_ZYGOTE:
            # A fresh one has another address space layout, and nothing that may have leaked into the old.
            await self._retire_zygote()
        try:
            if self._zygote is None:
                self._zygote = await self._start_zygote()
            self._forked += 1
            return await self._zygote.fork(policy, [self._placement.kind])
        except (OSError, TimeoutError) as error:
            output = self._zygote.process.output()[-1000:] if self._zygote is not None else ""
            logger().warning("zygote_failed", error=str(error), output=output)
            await self._retire_zygote()
            return None

    async def _start_zygote(self) -> ForkServer:
        directory = self._directory / "zygote"
        directory.mkdir(exist_ok=True)
        policy = self._policy(directory)
        # One thread each, until a runner asks for more: a zygote must not have any but its own.
        env = {**policy.env, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        argv = (sys.executable, "-P", "-m", "keck_executor.runner.zygote")
        return await ForkServer.start(dataclasses.replace(policy, env=env), lambda fd: [*argv, str(fd)])

    async def _retire_zygote(self) -> None:
        zygote, self._zygote, self._forked = self._zygote, None, 0
        if zygote is not None:
            reason = f"the zygote, process {zygote.process.pid}, does not end"
            await self._quarantine.end(zygote.stop(), zygote.process, reason=reason)

    async def _spawn_cold(self, policy: Policy) -> Process:
        """The slow way, which needs no zygote."""
        fd = policy.pass_fds[0]
        argv = [sys.executable, "-P", "-m", "keck_executor.runner", str(fd), self._placement.kind]
        return await spawn(policy, argv)
