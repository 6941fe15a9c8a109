"""One check as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from keck.errors import KeckError, NotFound, Unavailable
from keck.messages import CheckProgress, EvalDone, to_json
from keck.subjects import CheckKey
from keck_gateway.bodies import CheckState, QueuePlace
from keck_gateway.desk import Desk

__all__ = ["follow"]

_POSITION_EVERY_S = 2.0
_KEEP_ALIVE_S = 15.0
"""Proxies close what is silent for a minute or so."""
_UNKNOWN = -1


async def follow(desk: Desk, key: CheckKey) -> AsyncIterator[bytes]:
    """Everything that happens to a check from now on, as the bytes of server-sent events."""
    try:
        with desk.waiters.place(key) as verdict, desk.feed.listen(key) as heard:
            verdict.add_done_callback(lambda _: heard.put_nowait(None))
            before = desk.feed.last(key)
            # Only from here on is nothing missed, so the state is read again.
            state = await desk.find(key)
            if isinstance(state, EvalDone):
                yield _event("verdict", state)
                return
            yield b": following\n\n" if state.queue_position is None else _event("queued", _queued(state))
            if before is not None:
                yield _event("progress", before)
            async for chunk in _until_verdict(desk, key, state.queue_position, verdict=verdict, heard=heard):
                yield chunk
    except KeckError as error:
        # The status is sent already: the stream ends without a verdict, which tells a client to ask again.
        yield b": " + str(error).encode() + b"\n\n"


async def _until_verdict(
    desk: Desk,
    key: CheckKey,
    position: int | None,
    *,
    verdict: asyncio.Future[EvalDone],
    heard: asyncio.Queue[CheckProgress | None],
) -> AsyncIterator[bytes]:
    said_at = time.monotonic()
    while True:
        try:
            progress = await asyncio.wait_for(heard.get(), _POSITION_EVERY_S)
        except TimeoutError:
            moved = await _moved(desk, key, position)
            if moved is not None:
                position, said_at = moved.queue_position, time.monotonic()
            if moved is not None and position is not None:
                yield _event("queued", _queued(moved))
            elif time.monotonic() - said_at >= _KEEP_ALIVE_S:
                said_at = time.monotonic()
                yield b": keep-alive\n\n"
            continue
        if progress is None:
            yield _event("verdict", verdict.result())
            return
        said_at = time.monotonic()
        if progress.stage == "compiled":
            position = _UNKNOWN  # it is about to wait for an executor
        yield _event("progress", progress)


async def _moved(desk: Desk, key: CheckKey, position: int | None) -> CheckState | None:
    """The check's new state, if it waits in a queue and its place there changed."""
    if position is None:
        return None
    try:
        state = await desk.find(key)
    except (NotFound, Unavailable):
        return None  # the bus is away: the next look tells
    if isinstance(state, EvalDone) or state.queue_position == position:
        return None  # a verdict comes by itself
    return state


def _queued(state: CheckState) -> QueuePlace:
    before = f"at most {state.queue_position} before it" if state.queue_position else "next"
    if state.estimate_s is not None:
        before += f", about {state.estimate_s:.0f} s"
    waiting = f"for a worker: {before}"
    if state.unserved:
        waiting = f"until there is a live {state.unserved}"
    return QueuePlace(
        check_id=state.check_id,
        run=state.run,
        generation=state.generation,
        stage="queued",
        message=f"{'built, ' if state.state == 'built' else ''}waiting {waiting}",
        at=time.time(),
        queue_position=state.queue_position,
        estimate_s=state.estimate_s,
        unserved=state.unserved,
    )


def _event(name: str, value: CheckProgress | EvalDone) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + to_json(value) + b"\n\n"
