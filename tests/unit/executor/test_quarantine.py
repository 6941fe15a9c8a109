"""A quarantine begins with the first reason and ends by itself with the last."""

from __future__ import annotations

import asyncio

from keck.testing import async_wait_until
from keck_executor.quarantine import Quarantine


async def test_it_lasts_as_long_as_any_reason() -> None:
    told: list[bool] = []
    quarantine = Quarantine()
    quarantine.on_change(told.append)
    first, second = asyncio.Event(), asyncio.Event()
    quarantine.until(first.wait(), reason="one")
    quarantine.until(second.wait(), reason="two")
    assert quarantine.reasons == ["one", "two"]
    first.set()
    await async_wait_until(lambda: quarantine.reasons == ["two"])
    assert told == [False, True, True, True]
    second.set()
    await async_wait_until(lambda: quarantine.reasons == [])
    assert told[-1] is False


async def test_who_listens_late_is_told_how_it_is() -> None:
    told: list[bool] = []
    quarantine = Quarantine()
    quarantine.until(asyncio.Event().wait(), reason="never")
    quarantine.on_change(told.append)
    assert told == [True]
    quarantine.close()
    await async_wait_until(lambda: told[-1] is False)


async def test_a_reason_that_fails_is_over() -> None:
    async def fails() -> None:
        raise RuntimeError

    quarantine = Quarantine()
    quarantine.until(fails(), reason="it fails")
    await async_wait_until(lambda: quarantine.reasons == [])
