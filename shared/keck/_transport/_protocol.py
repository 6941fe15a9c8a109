"""What a transport must be able to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from keck.load import Load
from keck.messages import CheckProgress, CheckRequested, EvalDone, Heartbeat, Replay, ReplayProgress
from keck.subjects import CheckKey

__all__ = ["Transport"]


class Transport(Protocol):
    """One connection to one Keck; raises only :mod:`keck.errors`."""

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of the connection; what was submitted goes on."""

    async def submit(self, request: CheckRequested) -> CheckKey:
        """Queue a check; returns once it is stored."""

    async def submit_and_wait(self, request: CheckRequested) -> EvalDone:
        """Queue a check and wait for its verdict."""

    async def result(self, key: CheckKey) -> EvalDone:
        """The verdict, waited for as long as it takes; the caller bounds the time."""

    def events(self, key: CheckKey) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Progress from now on, ended by the verdict."""

    def follow(self, request: CheckRequested) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Queue a check and yield its progress from the first stage on, ended by the verdict."""

    async def cancel(self, key: CheckKey, reason: str) -> EvalDone:
        """End a check; the verdict that it has then."""

    def replay(self, order: Replay) -> AsyncGenerator[ReplayProgress, None]:
        """Do checks again; how far that is, until it is finished."""

    async def executors(self) -> list[Heartbeat]:
        """Executors that are alive."""

    async def load(self) -> Load:
        """All live workers, and what waits for them."""

    def watch(self, run: str) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """What happens in a run from now on, without an end."""
