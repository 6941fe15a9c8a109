"""Asking again: how long a call that may be repeated is repeated."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from keck.errors import NotPermitted, QueueFull, Unavailable

__all__ = ["PATIENCE_S", "patiently"]

PATIENCE_S: Final = 300.0
"""How long Keck may be out of reach, unless told otherwise: a gateway or a bus is restarted within that."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_T = TypeVar("_T")


async def patiently(ask: Callable[[], Awaitable[_T]], *, until: float, patience_s: float = PATIENCE_S) -> _T:
    """The answer to a call that may be made any number of times.

    A full queue is worked off, so it is asked again until the end; what is out of reach only for `patience_s` in a row.

    Args:
        ask: makes the call.
        until: Unix seconds after which the answer is of no use.
        patience_s: seconds.

    Raises:
        QueueFull, Unavailable: still, when patience or time ended.
        KeckError: what asking again does not change.
    """
    pause_s, since = _FIRST_PAUSE_S, time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            return await ask()
        except NotPermitted:
            raise
        except QueueFull as full:
            last: QueueFull | Unavailable = full
            wait_s, pause_s, since = full.retry_after_s, _FIRST_PAUSE_S, time.monotonic()
        except Unavailable as error:
            last = error
            if time.monotonic() - asked > patience_s:  # it was in reach for a long while
                pause_s, since = _FIRST_PAUSE_S, time.monotonic()
            wait_s, pause_s = pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)
            if time.monotonic() + wait_s - since > patience_s:
                raise
        # Thousands that were refused at once must not come back at once.
        wait_s *= random.uniform(0.7, 1.3)
        if time.time() + wait_s > until:
            raise last
        await asyncio.sleep(wait_s)
