"""Keeping checks away from a device while it is not fit for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from keck.logs import logger
from keck_sandbox import Process

__all__ = ["Quarantine"]


async def _nothing() -> None:
    pass


class Quarantine:
    """Begins with the first reason, ends by itself with the last.

    Meanwhile the executor's heartbeat says ``quarantined`` and it takes no check; those that wait go to others.
    """

    def __init__(self) -> None:
        self._reasons: dict[asyncio.Future[Any], str] = {}
        self._on_change: Callable[[bool], None] | None = None

    @property
    def reasons(self) -> list[str]:
        """Why, for people; empty: there is none."""
        return list(self._reasons.values())

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Have `callback` told now, and whenever it begins or ends, whether it is in force."""
        self._on_change = callback
        callback(bool(self._reasons))

    def until(self, over: Awaitable[object], *, reason: str) -> None:
        """In force, for this reason, until `over` returns; its failing is its end, too."""
        task = asyncio.gather(over, return_exceptions=True)
        self._reasons[task] = reason
        logger().error("quarantine_began", reason=reason)
        task.add_done_callback(self._over)
        self._tell()

    async def end(
        self,
        kill: Awaitable[object],
        process: Process,
        *,
        reason: str,
        then: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """End a cell, then do what is to be done when it is gone; in force where that does not come in time.

        Args:
            kill: ends it, or raises TimeoutError.
            process: of the cell.
            reason: for people.
            then: what comes after its end.
        """

        async def late() -> None:
            await process.wait()
            await then()

        try:
            await kill
        except TimeoutError:
            self.until(late(), reason=reason)
        else:
            await then()

    def close(self) -> None:
        """Wait for nothing any more; for the executor's end."""
        for task in self._reasons:
            task.cancel()

    def _over(self, task: asyncio.Future[Any]) -> None:
        reason = self._reasons.pop(task)
        if not task.cancelled():
            logger().warning("quarantine_ended", reason=reason)
        self._tell()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(bool(self._reasons))
