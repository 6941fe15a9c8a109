"""All processes that can be seen, from ``/proc``. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Stat", "processes"]


class Stat(NamedTuple):
    """What is told of one."""

    pid: int
    state: str
    """A letter, ``Z`` for what is over and not reaped."""
    parent: int
    session: int


def processes() -> Iterator[Stat]:
    """Each of them; one that ends meanwhile is left out."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The name may hold spaces and parentheses: fields are counted from the last one.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        yield Stat(int(entry), fields[0].decode(), int(fields[1]), int(fields[3]))
