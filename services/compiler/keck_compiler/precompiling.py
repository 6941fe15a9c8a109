"""Precompiled headers for the flags that candidates give, made when they are seen to be in use."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter

from keck.logs import logger
from keck_cell import ExtensionCall
from keck_compiler.lean.prepare import is_precompiled
from keck_compiler.lean.toolchain import LeanToolchain

__all__ = ["Precompiling"]

_PLAIN = re.compile(
    r"-O[0-3s]?|-Ofast|-std=(c|gnu)\+\+(17|20)|-ffast-math|-march=native|-g|-w|-W[a-z][a-z-]*|-fopenmp|-DNDEBUG"
)
"""Flags that a header may be compiled with outside a cell: they name no file and run nothing."""
_AFTER_USES = 3
_MOST = 4
"""Each takes 0.2 GB of disk."""
_LIMIT_S = 300.0


class Precompiling:
    """Counts the flags of C++ sources, and has the header precompiled for those that come again."""

    def __init__(self) -> None:
        self._uses: Counter[tuple[str, ...]] = Counter()
        self._tried: set[tuple[str, ...]] = set()
        self._task: asyncio.Task[None] | None = None

    def note(self, call: ExtensionCall, lean: LeanToolchain) -> None:
        """A fast build with these flags was asked for."""
        flags = call.extra_cflags
        if not flags or flags in self._tried or not all(map(_PLAIN.fullmatch, flags)):
            return
        self._uses[flags] += 1
        running = self._task is not None and not self._task.done()
        if self._uses[flags] < _AFTER_USES or running or len(self._tried) >= _MOST:
            return
        self._tried.add(flags)
        if not is_precompiled(lean.directory, flags):
            self._task = asyncio.create_task(self._make(flags, lean), name="precompiled header")

    async def settled(self) -> None:
        """Wait for what is being made."""
        if self._task is not None:
            await self._task

    async def close(self) -> None:
        """End what is being made."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _make(self, flags: tuple[str, ...], lean: LeanToolchain) -> None:
        process = await asyncio.create_subprocess_exec(
            "nice", sys.executable, "-m", "keck_compiler.lean.prepare", str(lean.directory), *flags,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_LIMIT_S):
                _, said = await process.communicate()
        except TimeoutError:
            said = b"it took too long"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        logger().info(
            "header_precompiled",
            flags=list(flags),
            failed=process.returncode != 0,
            said=said.decode("utf-8", "replace")[-200:],
        )
