"""Where a check is, read from the streams: verdicts, then builds, then requests, then what was consumed."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, TypeVar

from keck import subjects
from keck.bus import Bus
from keck.errors import NotFound
from keck.hashing import sha256_hex
from keck.messages import (
    CheckProgress,
    CheckRequested,
    CompileDone,
    EvalDone,
    Options,
    decode,
    decode_verdict,
)
from keck.subjects import CheckKey
from keck_gateway.bodies import CheckState, State, links_of
from keck_gateway.queue_front import QueueFront

__all__ = ["Fingerprint", "Lookup", "fingerprint_of"]

_HISTORY_LAG_S = 0.15
"""A message may leave its queue a moment before HISTORY, which copies it, has it."""

_Queued = TypeVar("_Queued", CheckRequested, CompileDone)


class Fingerprint(NamedTuple):
    """What makes two requests the same check; a hash that is not known is empty and fits any."""

    kind: str
    candidate: str
    reference: str
    options: Options

    def fits(self, other: Fingerprint) -> bool:
        """Whether both may be the same check."""
        hashes = ((self.candidate, other.candidate), (self.reference, other.reference))
        return (
            self.kind == other.kind
            and all(not ours or not theirs or ours == theirs for ours, theirs in hashes)
            and self.options == other.options
        )


class Lookup:
    """Reads checks from the streams; keeps nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._front = QueueFront(bus)

    async def verdict(self, key: CheckKey) -> EvalDone | None:
        """The stored verdict, if there is one."""
        found = await self._bus.last_by_subject(subjects.EVALS, subjects.eval_done(key))
        return decode_verdict(found[1], of=key) if found else None

    async def find(self, key: CheckKey, progress: CheckProgress | None = None) -> EvalDone | CheckState:
        """The verdict of a check, or where it is.

        Raises:
            NotFound: no stream knows it.
            Unavailable: the bus does not answer.
        """
        for pause_s in (0.0, _HISTORY_LAG_S):
            await asyncio.sleep(pause_s)
            if (event := await self.verdict(key)) is not None:
                return event
            if (state := await self._unfinished(key, progress)) is not None:
                # It may have been judged while its queues were looked through.
                return await self.verdict(key) or state
        raise _unknown(key)

    async def newest(self, key: CheckKey) -> CheckRequested | CompileDone:
        """The event that says most of a check that has no verdict.

        Raises:
            NotFound: no stream knows it.
            Unavailable: the bus does not answer.
        """
        for pause_s in (0.0, _HISTORY_LAG_S):
            await asyncio.sleep(pause_s)
            for stream in (subjects.BUILDS, subjects.HISTORY):
                if build := await self._newest(stream, key, CompileDone):
                    return build[1]
            for stream in (subjects.CHECKS, subjects.HISTORY):
                if request := await self._newest(stream, key, CheckRequested):
                    return request[1]
        raise _unknown(key)

    async def queued(self, key: CheckKey) -> list[tuple[str, int]]:
        """Where messages of this check lie in queues: stream and sequence."""
        build, request = await asyncio.gather(
            self._newest(subjects.BUILDS, key, CompileDone),
            self._newest(subjects.CHECKS, key, CheckRequested),
        )
        places = ((subjects.BUILDS, build), (subjects.CHECKS, request))
        return [(stream, found[0]) for stream, found in places if found is not None]

    async def fingerprint(self, run: str, check_id: str) -> Fingerprint | None:
        """What is known by this id; None if nothing is.

        A replay may have been told to do it with other options: what was asked for first counts.
        """
        newest: CheckRequested | None = None
        for stream in (subjects.CHECKS, subjects.HISTORY):
            if found := await self._bus.last_by_subject(stream, _subjects_of(CheckRequested, run, check_id)):
                newest = newest or decode(found[1], CheckRequested)
        if newest is not None and newest.generation == 0:
            return fingerprint_of(newest)
        # Verdicts are kept longer than requests.
        event = await self.verdict(CheckKey(run, check_id, 0)) or newest
        return fingerprint_of(event) if event else None

    async def _unfinished(self, key: CheckKey, progress: CheckProgress | None) -> CheckState | None:
        queued_build, queued_request = await asyncio.gather(
            self._newest(subjects.BUILDS, key, CompileDone),
            self._newest(subjects.CHECKS, key, CheckRequested),
        )
        if queued_build:
            sequence, build = queued_build
            consumer = subjects.execute_consumer(build.target, build.lane)
            position = await self._front.position(subjects.BUILDS, consumer, sequence)
            return _state(key, "running" if position is None else "built", position, progress)
        if queued_request:
            sequence, request = queued_request
            consumer = subjects.compile_consumer(request.lane)
            position = await self._front.position(subjects.CHECKS, consumer, sequence)
            return _state(key, "building" if position is None else "queued", position, progress)
        # Between two queues, or its last message was just taken: what HISTORY has says how far it came.
        if await self._newest(subjects.HISTORY, key, CompileDone):
            return _state(key, "running", None, progress)
        if await self._newest(subjects.HISTORY, key, CheckRequested):
            return _state(key, "building", None, progress)
        return None

    async def _newest(self, stream: str, key: CheckKey, kind: type[_Queued]) -> tuple[int, _Queued] | None:
        """The newest message of a kind about this check, if it is of the generation asked for."""
        found = await self._bus.last_by_subject(stream, _subjects_of(kind, key.run, key.check_id))
        if found is None:
            return None
        sequence, data = found
        event = decode(data, kind)
        return (sequence, event) if event.generation == key.generation else None


def fingerprint_of(event: CheckRequested | EvalDone) -> Fingerprint:
    """The fingerprint of a check, from its request or its verdict."""
    match event:
        case CheckRequested():
            candidate, reference = sha256_hex(event.candidate), sha256_hex(event.reference)
        case EvalDone():
            candidate, reference = event.hashes.candidate, event.hashes.reference
    return Fingerprint(event.kind, candidate, reference, event.options)


def _unknown(key: CheckKey) -> NotFound:
    return NotFound(
        f"no check {key.check_id} in run {key.run}, generation {key.generation}, is known: "
        "it was never submitted here, or is older than the streams keep"
    )


def _subjects_of(kind: type[CheckRequested | CompileDone], run: str, check_id: str) -> str:
    """Subjects of one check's events in any lane and for any target; a direct get takes wildcards."""
    if kind is CheckRequested:
        return subjects.check_requested("*", run, check_id)
    return subjects.compile_done("*", "*", run, check_id)


def _state(
    key: CheckKey, state: State, queue_position: int | None, progress: CheckProgress | None
) -> CheckState:
    return CheckState(
        check_id=key.check_id,
        run=key.run,
        generation=key.generation,
        state=state,
        queue_position=queue_position,
        progress=progress,
        links=links_of(key),
    )
