"""Many checks at once: what is asked, what comes back, and a window over the two."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from typing import Any, Final, TypeVar

import msgspec

from keck.errors import KeckError
from keck.messages import EvalDone, Lane, Options

__all__ = ["AT_ONCE", "Check", "Checked", "Checks", "as_they_come", "in_order"]

AT_ONCE = 256
"""Checks of one `check_many` that are on their way at a time, unless told otherwise."""
_END: Final = object()
_HELD = 8
"""In order, as many times the window may be decided and wait for an earlier one."""


class Check(msgspec.Struct, frozen=True):
    """One check of many; the fields are the arguments of :meth:`keck.Client.submit`."""

    candidate: str
    reference: str
    check_id: str = ""
    run: str = "default"
    kind: str = "kernel"
    lane: Lane = "bulk"
    options: Options | Mapping[str, Any] | None = None
    deadline_s: float = 3600.0
    """Seconds from when it is its turn to be sent."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one check of many: a verdict, or the error that stood in its way."""

    index: int
    """Its place among the checks given, from 0."""
    check: Check
    verdict: EvalDone | None = None
    error: KeckError | None = None

    def result(self) -> EvalDone:
        """The verdict.

        Raises:
            KeckError: there is none; `error` says why.
        """
        if self.verdict is not None:
            return self.verdict
        assert self.error is not None, "one of the two is there"
        raise self.error


Checks = Iterable[Check] | AsyncIterable[Check]
_T = TypeVar("_T")
_R = TypeVar("_R")


async def as_they_come(
    checks: Iterable[_T] | AsyncIterable[_T],
    judge: Callable[[int, _T], Awaitable[_R]],
    *,
    at_once: int,
    hold: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[_R, None]:
    """Judge all of them, `at_once` at a time, and yield each as soon as it is decided.

    The next is taken only when there is room, and only while somebody iterates. Leaving the iteration cancels what is
    on its way here; what was submitted is judged all the same.

    Args:
        checks: taken one by one.
        judge: of an index and its check; raises only what ends everything.
        at_once: size of the window.
        hold: while it says so, no other check is begun.
    """
    source = _source_of(checks)
    coming: asyncio.Task[_T | object] | None = asyncio.create_task(_next(source))
    running: set[asyncio.Task[_R]] = set()
    begun = 0
    try:
        while coming is not None or running:
            # With nothing on its way the next is begun whatever `hold` says: all that is decided has been yielded.
            has_room = not running or (len(running) < at_once and not hold())
            awaited: set[asyncio.Task[Any]] = {*running}
            if coming is not None and has_room:
                awaited.add(coming)
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                check = coming.result()
                coming = None
                if check is not _END:
                    running.add(asyncio.create_task(_judged(judge, begun, check)))  # type: ignore[arg-type]  # a _T
                    begun += 1
                    coming = asyncio.create_task(_next(source))
            for decided in running & done:
                running.discard(decided)
                yield decided.result()
    finally:
        left: list[asyncio.Task[Any]] = [*running, *([coming] if coming is not None else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def in_order(
    checks: Checks, judge: Callable[[int, Check], Awaitable[Checked]], *, at_once: int
) -> AsyncGenerator[Checked, None]:
    """Judge all of them, `at_once` at a time, and yield them in the order in which they were given."""
    decided: dict[int, Checked] = {}
    expected = 0

    def is_full() -> bool:
        return len(decided) >= _HELD * at_once

    async with aclosing(as_they_come(checks, judge, at_once=at_once, hold=is_full)) as coming:
        async for checked in coming:
            decided[checked.index] = checked
            while expected in decided:
                yield decided.pop(expected)
                expected += 1


async def _judged(judge: Callable[[int, _T], Awaitable[_R]], index: int, check: _T) -> _R:
    return await judge(index, check)


async def _next(source: AsyncIterator[_T]) -> _T | object:
    return await anext(source, _END)


def _source_of(checks: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    return aiter(checks) if isinstance(checks, AsyncIterable) else _one_by_one(checks)


async def _one_by_one(checks: Iterable[_T]) -> AsyncGenerator[_T, None]:
    for check in checks:
        yield check
