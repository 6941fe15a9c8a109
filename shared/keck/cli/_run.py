"""Running a command's coroutine so that Ctrl-C and SIGTERM end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import typer

from keck.cli._talk import say
from keck.verdict import ExitCode

__all__ = ["run_to_exit"]


def run_to_exit(command: Coroutine[Any, Any, int]) -> None:
    """Run a command to its exit code; the first Ctrl-C or SIGTERM cancels it, which lets it clean up."""
    raise typer.Exit(asyncio.run(_cancellable(command)))


async def _cancellable(command: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(command)
    told: list[signal.Signals] = []

    def received(number: signal.Signals) -> None:
        told.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        say("keck: interrupted")
        return ExitCode.INFRASTRUCTURE
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
