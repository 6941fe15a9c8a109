"""A share of the fast builds is built by the stock recipe too: one difference, and the fast one is given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from keck.errors import Retry
from keck.logs import logger
from keck_cell import ExtensionCall
from keck_compiler.built import BuildTimeout, Built
from keck_compiler.device_code import kernel_code
from keck_compiler.diagnostics import first_error

__all__ = ["Audit", "difference"]

_MOST_WAITING = 4


class Audit:
    """Compares builds in the background, one after the other.

    Args:
        share: how many of the builds, 0 to 1.
        build_stock: the stock recipe.
        on_difference: told in what two builds differ.
        draw: a number from 0 to 1 for each build.
    """

    def __init__(
        self,
        share: float,
        build_stock: Callable[[ExtensionCall, str], Awaitable[Built]],
        on_difference: Callable[[str], None],
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._share = share
        self._build_stock = build_stock
        self._on_difference = on_difference
        self._draw = draw
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def consider(self, call: ExtensionCall, arch: str, fast: Built) -> None:
        """Perhaps look at a build that the fast recipe answered for."""
        if self._draw() >= self._share or len(self._tasks) >= _MOST_WAITING:
            return
        task = asyncio.create_task(self._compare(call, arch, fast), name="audit")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait for what is being compared."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Stop comparing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, call: ExtensionCall, arch: str, fast: Built) -> None:
        async with self._lock:
            try:
                stock = await self._build_stock(call, arch)
            except (Retry, BuildTimeout) as error:
                logger().info("audit_without_result", extension=call.name, error=str(error))
                return
        found = difference(fast, stock)
        logger().info("audited", extension=call.name, call=call.digest(), difference=found)
        if found:
            self._on_difference(f"audit of extension `{call.name}`: {found}")


def difference(fast: Built, stock: Built) -> str:
    """In what a fast build differs from the stock one; empty: in nothing that counts."""
    if bool(fast.module) != bool(stock.module):
        return f"fast {_how(fast)}, stock {_how(stock)}"
    if not fast.module:
        said, expected = (first_error(built.outcome.diagnostics) for built in (fast, stock))
        return "" if said == expected else f"its first error is {said!r}, and stock's {expected!r}"
    if fast.outcome.ptxas != stock.outcome.ptxas:
        return "what ptxas says of the kernels"
    try:
        same = kernel_code(fast.module) == kernel_code(stock.module)
    except ValueError as error:
        logger().info("audit_without_device_code", error=str(error))
        return ""
    return "" if same else "the code of the kernels"


def _how(built: Built) -> str:
    return "builds it" if built.module else f"refuses it ({built.outcome.message})"
