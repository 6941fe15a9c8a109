"""Results as lines of JSON, written as they come and taken up again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from keck.errors import BadRequest
from keck.evaluation.entries import Entry
from keck.messages import DECODING_ERRORS, EvalDone, to_json

__all__ = ["Result", "Results", "result_of"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was judged, and what came of it."""

    name: str
    level: int | None
    problem: int | None
    title: str
    sample: int
    digest: str
    """Of the sources and how they were to be judged: a line counts only for the same."""
    attempt: int
    """How many lines of the same came before this one."""
    verdict: EvalDone | None
    error: str = ""
    """Why there is no verdict."""

    @property
    def is_judged(self) -> bool:
        """Whether it says something about the candidate; what does not is tried again."""
        return self.verdict is not None and self.verdict.valid

    @property
    def is_final(self) -> bool:
        """Whether trying again would say nothing else: judged, or the task itself is at fault."""
        return self.verdict is not None and (self.verdict.valid or self.verdict.verdict == "reference_error")


def result_of(
    entry: Entry, digest: str, attempt: int, *, verdict: EvalDone | None = None, error: str = ""
) -> Result:
    """The line for an entry."""
    return Result(
        name=entry.name,
        level=entry.level,
        problem=entry.problem,
        title=entry.title,
        sample=entry.sample,
        digest=digest,
        attempt=attempt,
        verdict=verdict,
        error=error,
    )


class Results:
    """The file of results: read at the start, appended to, and by one process at a time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._newest: dict[tuple[str, str], Result] = {}
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Open and read it; a last line that was cut off is dropped.

        Raises:
            BadRequest: it cannot be opened, another process writes to it, or it is no file of results.
        """
        try:
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise BadRequest(f"cannot write {self.file}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for result in self._read():
                self._newest[result.name, result.digest] = result
        except BlockingIOError:
            self.close()
            raise BadRequest(f"another `keck batch` writes to {self.file}") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it, and let others write."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def newest(self, name: str, digest: str) -> Result | None:
        """The last line of this very check."""
        return self._newest.get((name, digest))

    def add(self, result: Result) -> None:
        """Append a line; it is in the file when this returns."""
        line = to_json(result) + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]
        self._newest[result.name, result.digest] = result

    def _read(self) -> Iterator[Result]:
        data = self.file.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._descriptor, whole)
        for number, line in enumerate(data[:whole].split(b"\n"), start=1):
            if not line:
                continue
            try:
                yield msgspec.json.decode(line, type=Result)
            except DECODING_ERRORS as error:
                raise BadRequest(
                    f"{self.file}, line {number} is no result of `keck batch`: {error}"
                ) from error
