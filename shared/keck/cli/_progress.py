"""How far a long command is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from keck.cli._talk import say, stderr

__all__ = ["LongRun"]

_LINE_EVERY_S: Final = 10.0


class LongRun:
    """Counts what is done, and says rate and time left; use it as a context manager.

    Args:
        total: how much there is to do now; what was done before is not counted.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._counts: dict[str, int] = {}
        self._began = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(self),
            console=stderr(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        """Show it."""
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._bar.stop()

    def advance(self, outcome: str) -> None:
        """One more is done, and this is what it came to."""
        self._done += 1
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        told = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        self._bar.update(self._task, completed=self._done, description=told)
        now = time.monotonic()
        if not self._bar.console.is_terminal and (
            now - self._said > _LINE_EVERY_S or self._done == self._total
        ):
            self._said = now
            say(f"keck: {self._done} of {self._total}: {told}; {self.pace()}")

    def pace(self) -> str:
        """Rate and time left."""
        taken_s = time.monotonic() - self._began
        if not self._done:
            return "no rate yet"
        rate = self._done / max(taken_s, 1e-9)
        said = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
        return f"{said}, {_duration((self._total - self._done) / rate)} left"


class _Rate(ProgressColumn):
    def __init__(self, run: LongRun) -> None:
        super().__init__()
        self._run = run

    def render(self, task: Task) -> Text:
        return Text(self._run.pace(), style="dim")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
