"""The executor's side of the judge: starts it, hands it jobs, starts another when it dies."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from keck.errors import Retry, Unavailable
from keck.logs import logger
from keck_executor.judge.job import Hello, Job, Outcome, Phase, decode_from_judge
from keck_executor.placement import Placement
from keck_executor.quarantine import Quarantine
from keck_executor.socketpair import pair, receive
from keck_sandbox import Policy, Process, spawn

__all__ = ["JudgeProcess"]

_START_S = 120.0
_GRACE_S = 60.0
"""On top of both sides' budgets: the judge's own work."""


class JudgeProcess:
    """One trusted process with the device's context, alive across checks."""

    def __init__(self, placement: Placement, directory: Path, quarantine: Quarantine) -> None:
        self._placement = placement
        self._quarantine = quarantine
        self._directory = directory
        self._process: Process | None = None
        self._sock: socket.socket | None = None
        self.facts: dict[str, str | float | None] = {}

    @property
    def pid(self) -> int | None:
        """Of the running judge."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start a judge and wait until it is ready.

        Raises:
            Unavailable: it did not come up; the message holds the end of what it printed.
        """
        ours, theirs = pair()
        ours.setblocking(False)
        policy = Policy(
            name="judge",
            trust="judge",
            devices=self._placement.devices,
            shares_user=True,
            directory=self._directory,
            env=self._placement.env,
            pass_fds=(theirs.fileno(),),
            file_bytes=None,
            open_files=65_536,
        )
        argv = [sys.executable, "-P", "-m", "keck_executor.judge", str(theirs.fileno()), self._placement.kind]
        self._process = await spawn(policy, argv)
        theirs.close()
        self._sock = ours
        try:
            data = await receive(ours, timeout_s=_START_S)
        except TimeoutError:
            data = b""
        if not data:
            output = self._process.output()[-2000:]
            await self.stop()
            raise Unavailable(f"the judge did not start on {self._placement.kind}: {output}")
        hello = decode_from_judge(data)
        assert isinstance(hello, Hello)
        self.facts = hello.facts

    async def stop(self) -> None:
        """End it, whatever it is doing."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        process, self._process = self._process, None
        if process is not None:
            reason = f"the judge, process {process.pid}, does not end"
            await self._quarantine.end(process.kill(), process, reason=reason)

    async def judge(
        self,
        job: Job,
        sockets: tuple[socket.socket, socket.socket],
        on_phase: Callable[[Phase], Awaitable[None]],
    ) -> Outcome:
        """Have one job judged.

        Raises:
            Retry: the judge died or hung; it has been replaced, and the check can be done again.
            Unavailable: no other came up; the next job starts one.
        """
        if self._sock is None or self._process is None or not self._process.running:
            await self.stop()
            await self.start()
        assert self._sock is not None
        limit_s = job.exec_timeout_s + job.reference_timeout_s + _GRACE_S
        until = asyncio.get_running_loop().time() + limit_s
        try:
            socket.send_fds(self._sock, [msgspec.msgpack.encode(job)], [each.fileno() for each in sockets])
        except OSError:
            raise await self._replaced("the judge's process ended", "judge_lost") from None
        while True:
            try:
                data = await receive(
                    self._sock, timeout_s=max(0.1, until - asyncio.get_running_loop().time())
                )
            except TimeoutError:
                raise await self._replaced("the judge did not answer", "judge_hung") from None
            if not data:
                raise await self._replaced("the judge's process ended", "judge_lost")
            message = decode_from_judge(data)
            if isinstance(message, Hello) or message.serial != job.serial:
                continue  # the rest of a job that nobody waits for any more
            if isinstance(message, Outcome):
                return message
            await on_phase(message)

    async def _replaced(self, reason: str, failure_kind: str) -> Retry:
        output = self._process.output()[-4000:] if self._process is not None else ""
        logger().error("judge_failed", reason=reason, output=output)
        await self.stop()
        await self.start()
        return Retry(reason, delay_s=1.0, failure_kind=failure_kind)
