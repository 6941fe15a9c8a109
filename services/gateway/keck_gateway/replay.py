"""Doing checks again as a new generation: scoring stored verdicts, judging stored builds, or all of it.

A replay keeps no state. What it made is on the bus under the new generation, where a second attempt at it is refused
by the server, so that a replay that was interrupted can be given again with the same generation.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Final

import msgspec

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest, KeckError, QueueFull
from keck.logs import logger
from keck.messages import (
    CheckRequested,
    CompileDone,
    EvalDone,
    Options,
    Replay,
    ReplayProgress,
    decode,
    decode_verdict,
)
from keck.policy import rescored
from keck.streams import ensure_target
from keck.subjects import CheckKey
from keck_gateway.replay_source import Stored, stored_events

__all__ = ["Replays"]

_AT_ONCE: Final = 4
_TELL_EVERY_S: Final = 1.0
_AHEAD: Final = 16
"""Checks of a replay that may lie in a queue before live ones: about as many as wait for the workers' next look."""
_LOOK_EVERY_S: Final = 0.2
_FULL_PAUSE_S: Final = 1.0
_MAY_DIFFER: Final = {
    "eval.done": frozenset({"policy"}),
    # What a build depends on is decided by now.
    "compile.done": frozenset(Options.__struct_fields__) - {"device", "arch", "gpu", "compile_timeout_s"},
    "check.requested": frozenset(Options.__struct_fields__),
}


class Replays:
    """Runs replays, a few at once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._running: set[asyncio.Task[None]] = set()

    def require_possible(self, order: Replay) -> None:
        """Refuse what can never work, and what may not begin now.

        Raises:
            BadRequest: options that cannot differ, or values they cannot have.
            QueueFull: as many replays run as may.
        """
        _changed(Options(), order)
        if order.source == "eval.done" and "policy" not in order.options:
            raise BadRequest(
                "a replay of eval.done scores stored verdicts again: name a `policy` in `options`"
            )
        if order.to_generation is not None and order.to_generation <= order.generation:
            raise BadRequest(f"to_generation must be above generation, which is {order.generation}")
        if len(self._running) >= _AT_ONCE:
            raise QueueFull(f"{_AT_ONCE} replays run on this gateway already", retry_after_s=30)

    async def run(self, order: Replay) -> AsyncGenerator[ReplayProgress, None]:
        """Do it; yields how far it is every second, and a last time when it is finished. Stops when closed.

        Raises:
            BadRequest, QueueFull: as for `require_possible`.
        """
        self.require_possible(order)
        replay = _Replay(self._bus, order)
        working = asyncio.create_task(replay.work(), name="replay")
        self._running.add(working)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=_TELL_EVERY_S)
                if not working.done():
                    yield replay.progress()
            yield replay.progress(finished=True, error=_what(working))
        finally:
            self._running.discard(working)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def close(self) -> None:
        """Stop those that run; their callers are told where to go on."""
        for working in self._running:
            working.cancel()


class _Replay:
    """One of them, and its tally."""

    def __init__(self, bus: Bus, order: Replay) -> None:
        self._bus = bus
        self._order = order
        self._generation = order.to_generation or 0
        self._read = self._made = self._known = self._unreadable = 0
        self._last = order.first_sequence - 1
        self._changes: Counter[str] = Counter()
        self._seen: set[CheckKey] = set()
        self._began = time.monotonic()
        self._room = 0

    def progress(self, *, finished: bool = False, error: str = "") -> ReplayProgress:
        """The tally of this moment."""
        return ReplayProgress(
            generation=self._generation,
            read=self._read,
            made=self._made,
            known=self._known,
            unreadable=self._unreadable,
            last_sequence=self._last,
            changed=dict(self._changes),
            finished=finished and not error,
            error=error,
        )

    async def work(self) -> None:
        """Everything, from the first event to the last.

        Raises:
            Unavailable: the bus does not answer.
        """
        if not self._generation:
            self._generation = await self._free_generation()
        logger().info("replay_began", source=self._order.source, generation=self._generation)
        async with aclosing(stored_events(self._bus, self._order)) as batches:
            async for batch in batches:
                self._read += len(batch)
                if self._order.source == "eval.done":
                    await self._score(batch)
                else:
                    await self._queue(batch)
                if self._is_enough():
                    break
                if (
                    not self._order.check_ids
                ):  # they are looked for one after the other, each from the beginning
                    self._last = batch[-1].sequence
        logger().info("replay_finished", made=self._made, known=self._known, generation=self._generation)

    async def _free_generation(self) -> int:
        """The first generation that no check of the run, or of all runs, has a verdict of."""
        run = self._order.run or ("default" if self._order.check_ids else "*")
        for generation in count(self._order.generation + 1):
            taken = await self._bus.last_by_subject(subjects.EVALS, f"eval.done.{run}.*.{generation}")
            if taken is None:
                return generation
        raise AssertionError

    def _is_enough(self) -> bool:
        return self._order.limit is not None and self._made + self._known >= self._order.limit

    def _left(self) -> int | None:
        limit = self._order.limit
        return None if limit is None else limit - self._made - self._known

    # --- eval.done

    async def _score(self, batch: Sequence[Stored]) -> None:
        before = [verdict for event in batch if (verdict := self._verdict_in(event)) is not None]
        before = before[: self._left()]
        at_once = len(batch) if self._order.rate is None else max(1, int(self._order.rate * _TELL_EVERY_S))
        for first in range(0, len(before), at_once):
            await self._store(before[first : first + at_once])
            await self._pace()

    async def _store(self, before: Sequence[EvalDone]) -> None:
        after = [self._rescored(verdict) for verdict in before]
        for old, new, stored in zip(before, after, await self._bus.publish_terminals(after), strict=True):
            self._made += stored
            self._known += not stored
            if old.verdict is not new.verdict:
                self._changes[f"{old.verdict} > {new.verdict}"] += 1

    def _verdict_in(self, event: Stored) -> EvalDone | None:
        try:
            verdict = decode_verdict(event.data, of=subjects.check_key(event.subject))
        except (BadRequest, ValueError):
            self._unreadable += 1
            return None
        wanted = self._order.verdicts
        return verdict if not wanted or verdict.verdict in wanted else None

    def _rescored(self, verdict: EvalDone) -> EvalDone:
        policy = _changed(verdict.options, self._order).policy
        return msgspec.structs.replace(
            rescored(verdict, policy), generation=self._generation, rescored_from=verdict.generation
        )

    # --- compile.done and check.requested

    async def _queue(self, batch: Sequence[Stored]) -> None:
        for event in batch:
            try:
                old = self._work_in(event)
                if not await self._is_wanted(old):
                    continue
                again = self._again(old)
            except BadRequest:
                self._unreadable += 1
                continue
            await self._publish(again)
            await self._pace()
            if self._is_enough():
                return

    def _work_in(self, event: Stored) -> CheckRequested | CompileDone:
        if self._order.source == "compile.done":
            return decode(event.data, CompileDone)
        return decode(event.data, CheckRequested)

    async def _is_wanted(self, work: CheckRequested | CompileDone) -> bool:
        """Whether it is selected, and was not met before: a server that restarted may have let a copy in."""
        key = CheckKey.of(work)
        if work.generation != self._order.generation or key in self._seen:
            return False
        self._seen.add(key)
        if not self._order.verdicts:
            return True
        found = await self._bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
        return found is not None and decode_verdict(found[1], of=key).verdict in self._order.verdicts

    def _again(self, work: CheckRequested | CompileDone) -> CheckRequested | CompileDone:
        now = time.time()
        changes: dict[str, Any] = {
            "generation": self._generation,
            "lane": "bulk",
            "options": _changed(work.options, self._order),
            "submitted_at": now,
            "deadline": now + self._order.deadline_s,
        }
        changes["rebuilds"] = 0
        if isinstance(work, CompileDone):
            changes |= {"compiled_at": now, "compile_s": 0.0, "attempts": 1}
        return msgspec.structs.replace(work, **changes)

    async def _publish(self, work: CheckRequested | CompileDone) -> None:
        key = CheckKey.of(work)
        if await self._bus.is_decided(key):
            self._known += 1
            return
        await self._wait_for_room(work)
        if isinstance(work, CompileDone):
            subject = subjects.compile_done(work.target, work.lane, work.run, work.check_id)
            msg_id = subjects.build_id(key)
        else:
            subject = subjects.check_requested(work.lane, work.run, work.check_id)
            msg_id = subjects.request_id(key)
        while True:
            try:
                await self._bus.publish(subject, work, msg_id=msg_id)
                break
            except QueueFull:  # whoever waits live is refused as well: come back later
                await asyncio.sleep(_FULL_PAUSE_S)
        self._made += 1
        self._room -= 1

    async def _wait_for_room(self, work: CheckRequested | CompileDone) -> None:
        """Return once little enough waits where this is going: live work must not queue behind a replay."""
        while self._room <= 0:
            waiting = await self._waiting(work)
            self._room = _AHEAD - waiting
            if self._room <= 0:
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _waiting(self, work: CheckRequested | CompileDone) -> int:
        """Messages that nobody was given yet, of both lanes."""
        if isinstance(work, CompileDone):
            await ensure_target(self._bus, work.target)
            names = [
                (subjects.BUILDS, subjects.execute_consumer(work.target, lane)) for lane in subjects.LANES
            ]
        else:
            names = [(subjects.CHECKS, subjects.compile_consumer(lane)) for lane in subjects.LANES]
        infos = [await self._bus.api(f"CONSUMER.INFO.{stream}.{name}", {}) for stream, name in names]
        return sum(int(info.get("num_pending", 0)) for info in infos)

    async def _pace(self) -> None:
        """No faster than was asked for; and let others have the event loop."""
        due_s = (self._made + self._known) / self._order.rate if self._order.rate else 0.0
        await asyncio.sleep(max(0.0, self._began + due_s - time.monotonic()))


def _changed(options: Options, order: Replay) -> Options:
    """Stored options with what is to differ.

    Raises:
        BadRequest: an option that does not exist, cannot differ here, or cannot have this value.
    """
    if not order.options:
        return options
    allowed = _MAY_DIFFER[order.source]
    wrong = sorted(set(order.options) - allowed)
    if wrong:
        raise BadRequest(
            f"a replay of {order.source} cannot change {', '.join(wrong)}; it can change {', '.join(sorted(allowed))}"
        )
    try:
        return msgspec.convert({**msgspec.to_builtins(options), **order.options}, Options)
    except msgspec.ValidationError as error:
        raise BadRequest(f"options: {error}") from error


def _what(work: asyncio.Task[None]) -> str:
    if work.cancelled():
        return "the gateway is shutting down; give the replay again with this generation to go on"
    error = work.exception()
    if error is None:
        return ""
    if isinstance(error, KeckError):
        return str(error)
    logger().error("replay_failed", exc_info=error)
    return f"internal error ({type(error).__name__})"
