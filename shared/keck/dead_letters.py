"""What becomes of messages that can never be handled: kept for operators, answered for whoever waits."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.messages import DECODING_ERRORS, NAME_PATTERN, CheckRequested, EvalDone, verdict_of
from keck.verdict import Verdict

__all__ = ["Letter", "bury", "names_in", "verdict_on_unreadable"]

_NAME = re.compile(NAME_PATTERN)
_MAX_COPY_BYTES = 1_000_000
"""With these headers no more than a server takes by default; a copy that is refused would leave its check unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message as it lay in its queue."""

    stream: str
    sequence: int
    stored_at: str
    """Tells it from one of the same sequence in a stream that was made anew."""
    subject: str
    data: bytes

    @classmethod
    def of(cls, message: Msg) -> Self:
        """One that was delivered."""
        meta = message.metadata
        return cls(
            stream=meta.stream,
            sequence=meta.sequence.stream,
            stored_at=str(meta.timestamp.timestamp()),
            subject=message.subject,
            data=message.data,
        )


async def bury(bus: Bus, letter: Letter, *, stage: str, reason: str) -> None:
    """Store a copy, as it came, with where it came from, how large it was and why it is here.

    Raises:
        Unavailable: it could not be stored.
    """
    run, check_id = names_in(letter.subject)
    headers = {
        subjects.MSG_ID: f"dead.{letter.stream}.{letter.sequence}.{letter.stored_at}",
        "Keck-Reason": _ascii(" ".join(reason.split()))[:1_000],
        "Keck-Subject": _ascii(letter.subject),
        "Keck-Size": str(len(letter.data)),
    }
    copy = letter.data[:_MAX_COPY_BYTES]
    await bus.store(subjects.dead(stage, _token(run), _token(check_id)), copy, headers=headers)


def verdict_on_unreadable(letter: Letter, reason: str) -> EvalDone | None:
    """The verdict for the check that the subject names, so that nobody waits for its deadline.

    None where the subject's names are none that a verdict could carry.
    """
    run, check_id = names_in(letter.subject)
    if not (_NAME.match(run) and _NAME.match(check_id)):
        return None
    unknown = CheckRequested(
        check_id=check_id,
        run=run,
        generation=_generation_in(letter.data),
        candidate="",
        reference="",
        deadline=0.0,
        submitted_at=time.time(),
    )
    return verdict_of(
        unknown,
        Verdict.INFRA_ERROR,
        stage="format",
        failure_kind="unreadable_message",
        message=f"the message of this check could not be read: {' '.join(reason.split())}",
    )


def names_in(subject: str) -> tuple[str, str]:
    """Run and check id: the last two tokens of a request's or a build's subject."""
    run, check_id = subject.split(".")[-2:]
    return run, check_id


def _token(name: str) -> str:
    """A name as a token of a subject of ours.

    Whose name is none may have sent one of thousands of letters, and for a line of more than 4,096 bytes the server
    closes the connection, also that of whoever is given the message next.
    """
    return name if _NAME.match(name) else "unnamed"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _generation_in(data: bytes) -> int:
    """The generation, from bytes that are no valid event but may still be a map; else 0."""
    try:
        fields: Any = msgspec.msgpack.decode(data)
    except DECODING_ERRORS:
        return 0
    generation = fields.get("generation") if isinstance(fields, dict) else None
    return generation if type(generation) is int and generation >= 0 else 0
