"""One child process with its log."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from keck import _child

__all__ = ["ChildProcess"]

_TAIL_BYTES: Final = 65_536
_TAIL_LINE_CHARS: Final = 600
"""A traceback as JSON is one line of many kilobytes; the log itself has all of it."""


class ChildProcess:
    """A program in its own process group, which ends when this process does, however that ends.

    The kernel ties the child to the *thread* that starts it: start children from a thread that stays.

    Args:
        on_orphaned: the signal the child gets if this process dies without stopping it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        on_orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.starts = 0
        self.environ = dict(environ)
        self._on_orphaned = on_orphaned
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too; 0 before the first start."""
        return 0 if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started; negative: the signal that ended it."""
        return None if self._process is None else self._process.returncode

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; its output is appended to the log."""
        wrapper = [sys.executable, "-I", _child.__file__, str(os.getpid()), str(int(self._on_orphaned))]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *wrapper,
                *self.command,
                env=self.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # the terminal's Ctrl-C is ours to pass on
            )
        self.starts += 1

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and whatever is left in its group."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines it wrote."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(line[:_TAIL_LINE_CHARS] for line in text.splitlines()[-lines:])
