"""The stages of a check as lines of talk."""

from __future__ import annotations

import time

from keck.cli._talk import say
from keck.messages import CheckProgress

__all__ = ["Silent", "Stages"]


class Stages:
    """Prints each stage once, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def show(self, event: CheckProgress) -> None:
        """A stage that was reached."""
        line = f"{event.stage}: {event.message}" if event.message else event.stage
        if line != self._last:
            self.note(line)
        self._last = line

    def note(self, line: str) -> None:
        """Another line with its time."""
        say(f"[{time.monotonic() - self._began:6.1f} s] {line}", style="dim")


class Silent(Stages):
    """Stages of many checks at once would only be noise."""

    def show(self, event: CheckProgress) -> None:
        """Nothing."""
