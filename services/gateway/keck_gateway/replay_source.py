"""Where a replay finds what it does again: events of EVALS or HISTORY, read in order and without a consumer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.messages import Replay

__all__ = ["Stored", "stored_events"]

_BATCH: Final = 500


class Stored(NamedTuple):
    """A message as a stream holds it."""

    sequence: int
    subject: str
    data: bytes
    at: float
    """When it was stored, Unix seconds by the server's clock."""


async def stored_events(bus: Bus, order: Replay) -> AsyncGenerator[list[Stored], None]:
    """The events that an order's names, times and sequences select, some hundred at a time.

    What can be said only of an event's content (the generation of a request, a check's verdict) is not looked at.

    Raises:
        Unavailable: the bus does not answer.
    """
    stream = subjects.EVALS if order.source == "eval.done" else subjects.HISTORY
    # What is stored from now on may be the replay's own.
    end = int((await bus.api(f"STREAM.INFO.{stream}", {}))["state"]["last_seq"])
    order = msgspec.structs.replace(order, last_sequence=min(order.last_sequence or end, end))
    for pattern in _patterns(order):
        sequence, first = order.first_sequence, True
        while True:
            found, over = list[Stored](), False
            query = _query(order, pattern, sequence, first=first)
            async for message in bus.batch(stream, query):
                event = _stored(message)
                if _is_beyond(order, event):
                    over = True
                    break
                found.append(event)
            if not found:
                break
            yield [event for event in found if order.since is None or event.at >= order.since]
            if over:
                break
            sequence, first = found[-1].sequence + 1, False


def _patterns(order: Replay) -> list[str]:
    """Subjects, with wildcards, that the server selects by."""
    run = order.run or ("default" if order.check_ids else "*")
    checks = order.check_ids or ["*"]
    match order.source:
        case "eval.done":
            return [f"eval.done.{run}.{check}.{order.generation}" for check in checks]
        case "compile.done":
            return [subjects.compile_done("*", "*", run, check) for check in checks]
        case "check.requested":
            return [subjects.check_requested("*", run, check) for check in checks]


def _query(order: Replay, pattern: str, sequence: int, *, first: bool) -> dict[str, Any]:
    query: dict[str, Any] = {"batch": _BATCH, "next_by_subj": pattern}
    if first and order.since is not None and sequence == 1:
        start = datetime.fromtimestamp(order.since, UTC).isoformat()
        return {**query, "start_time": start.replace("+00:00", "Z")}
    return {**query, "seq": sequence}


def _stored(message: Msg) -> Stored:
    headers = message.headers or {}
    sequence, subject, at = (headers[name] for name in ("Nats-Sequence", "Nats-Subject", "Nats-Time-Stamp"))
    return Stored(int(sequence), subject, message.data, _seconds(at))


def _is_beyond(order: Replay, event: Stored) -> bool:
    if order.last_sequence is not None and event.sequence > order.last_sequence:
        return True
    return order.until is not None and event.at >= order.until


def _seconds(text: str) -> float:
    """Unix seconds of the server's time stamp, whose nanoseconds Python does not read."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
