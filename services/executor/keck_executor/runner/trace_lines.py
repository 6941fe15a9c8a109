r"""What one call of `forward` ran, as lines of bytes from a runner to the judge.

A line is ``kind SP count SP nanoseconds TAB name TAB launched_by LF``: kind one of ``K`` (a kernel on the device),
``O`` (an operator of torch's) and ``C`` (a call of an extension's function), numbers of at most fifteen digits, names of printable
ASCII. Whoever writes them may be hostile, so the judge splits lines at these bytes and refuses what is not exactly that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keck_executor.runner.wire import MAX_TEXT, ProtocolError

__all__ = ["MAX_LINES", "TraceLine", "pack_trace", "unpack_trace"]

MAX_LINES = 256
_MAX_NAME = 200
_LINE = re.compile(rb"([KOC]) ([0-9]{1,15}) ([0-9]{1,15})\t([ -~]{0,200})\t([ -~]{0,200})")
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class TraceLine:
    """All events of one name."""

    kind: str
    count: int
    nanoseconds: int
    name: str
    launched_by: str = ""


def pack_trace(lines: Iterable[TraceLine]) -> bytes:
    """The lines that took longest, as many as fit."""
    packed, room = [], MAX_TEXT
    for line in sorted(lines, key=lambda item: -item.nanoseconds)[:MAX_LINES]:
        name, by = (_UNPRINTABLE.sub("?", text)[:_MAX_NAME] for text in (line.name, line.launched_by))
        data = f"{line.kind} {line.count} {max(0, line.nanoseconds)}\t{name}\t{by}\n".encode("ascii")
        if len(data) > room:
            break
        room -= len(data)
        packed.append(data)
    return b"".join(packed)


def unpack_trace(data: bytes) -> tuple[TraceLine, ...]:
    """Read lines that may come from hostile code.

    Raises:
        ProtocolError: they are not of the form above.
    """
    if not data:
        return ()
    lines = data.split(b"\n")
    if len(lines) > MAX_LINES + 1 or lines.pop():
        raise ProtocolError("a trace of too many lines, or without its end")
    found = []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProtocolError("a line of a trace that is none")
        kind, count, nanoseconds, name, by = (group.decode("ascii") for group in match.groups())
        found.append(TraceLine(kind, int(count), int(nanoseconds), name, by))
    return tuple(found)
