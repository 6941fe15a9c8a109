"""The window over many checks, and asking again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from keck.batches import Check, Checked, as_they_come, in_order
from keck.errors import BadRequest, NotPermitted, QueueFull, Unavailable
from keck.patience import patiently
from keck.testing import async_wait_until, sample_eval_done

VERDICT = sample_eval_done()


def checks(count: int) -> list[Check]:
    return [Check(str(index), "reference") for index in range(count)]


class Court:
    """Decides checks when it is told to, and knows how many were before it at once."""

    def __init__(self) -> None:
        self.now: set[int] = set()
        self.most = 0
        self.begun: list[int] = []
        self.may_end = {index: asyncio.Event() for index in range(100)}

    async def judge(self, index: int, check: Check) -> Checked:
        self.begun.append(index)
        self.now.add(index)
        self.most = max(self.most, len(self.now))
        try:
            await self.may_end[index].wait()
        finally:
            self.now.discard(index)
        return Checked(index=index, check=check, verdict=VERDICT)

    def release(self, *indices: int) -> None:
        for index in indices:
            self.may_end[index].set()


async def test_no_more_than_the_window_are_on_their_way_and_all_are_decided() -> None:
    court = Court()

    async def all_of_them() -> list[int]:
        return [checked.index async for checked in as_they_come(checks(50), court.judge, at_once=7)]

    seen = asyncio.create_task(all_of_them())
    await async_wait_until(lambda: len(court.now) == 7)
    court.release(*range(50))
    assert sorted(await seen) == list(range(50))
    assert court.most == 7


async def test_what_is_decided_first_comes_first_unless_order_is_asked_for() -> None:
    court = Court()
    court.release(1, 2)
    async with aclosing(as_they_come(checks(3), court.judge, at_once=3)) as coming:
        assert {(await anext(coming)).index, (await anext(coming)).index} == {1, 2}
        court.release(0)
        assert (await anext(coming)).index == 0
    court = Court()
    court.release(1, 2)
    async with aclosing(in_order(checks(3), court.judge, at_once=3)) as ordered:
        first = asyncio.create_task(anext(ordered))
        done, _ = await asyncio.wait({first}, timeout=0.05)
        assert not done
        court.release(0)
        assert [(await first).index, (await anext(ordered)).index, (await anext(ordered)).index] == [0, 1, 2]


async def test_in_order_a_slow_first_check_bounds_what_waits_for_it() -> None:
    court = Court()
    court.release(*range(1, 100))
    async with aclosing(in_order(checks(100), court.judge, at_once=2)) as ordered:
        first = asyncio.create_task(anext(ordered))
        await asyncio.wait({first}, timeout=0.2)
        assert len(court.begun) <= 2 * 8 + 2
        court.release(0)
        await first
        assert [checked.index async for checked in ordered] == list(range(1, 100))


async def test_checks_are_taken_only_as_there_is_room() -> None:
    taken: list[int] = []

    def many() -> Iterator[Check]:
        for index, check in enumerate(checks(100)):
            taken.append(index)
            yield check

    court = Court()
    async with aclosing(as_they_come(many(), court.judge, at_once=3)) as coming:
        court.release(0)
        await anext(coming)
        assert len(taken) <= 5
    assert court.now == set()


async def test_an_async_source_that_fails_ends_the_iteration_with_its_own_error() -> None:
    async def failing() -> AsyncIterator[Check]:
        yield checks(1)[0]
        raise LookupError("the file ended")

    court = Court()
    with pytest.raises(LookupError, match="the file ended"):
        async for _ in as_they_come(failing(), court.judge, at_once=3):
            pass
    assert court.now == set()


def test_an_outcome_is_its_verdict_or_raises_its_error() -> None:
    check = checks(1)[0]
    assert Checked(index=0, check=check, verdict=VERDICT).result() is VERDICT
    with pytest.raises(BadRequest, match="too large"):
        Checked(index=0, check=check, error=BadRequest("too large")).result()


class Answers:
    """Raises what it is given, in turn, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_a_full_queue_is_asked_again_however_short_the_patience() -> None:
    ask = Answers(*(QueueFull(retry_after_s=0.01) for _ in range(5)))
    assert await patiently(ask, until=time.time() + 60, patience_s=0.001) == "answer"
    assert ask.asked == 6


async def test_what_is_out_of_reach_is_asked_again_until_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keck.patience._FIRST_PAUSE_S", 0.01)
    assert await patiently(Answers(Unavailable("gone")), until=time.time() + 60, patience_s=5) == "answer"
    ask = Answers(*(Unavailable("gone") for _ in range(100)))
    with pytest.raises(Unavailable, match="gone"):
        await patiently(ask, until=time.time() + 60, patience_s=0.1)
    assert 2 <= ask.asked < 10


async def test_nothing_is_asked_again_after_its_end_or_where_that_is_no_use() -> None:
    late = Answers(QueueFull(retry_after_s=5))
    with pytest.raises(QueueFull):
        await patiently(late, until=time.time() + 1)
    refused = Answers(NotPermitted("no"))
    with pytest.raises(NotPermitted):
        await patiently(refused, until=time.time() + 60)
    wrong = Answers(BadRequest("no"))
    with pytest.raises(BadRequest):
        await patiently(wrong, until=time.time() + 60)
    assert (late.asked, refused.asked, wrong.asked) == (1, 1, 1)
