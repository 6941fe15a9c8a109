"""KernelBench's naming of problems and generations.

Problems are ``level1/19_ReLU.py``: a folder named for the level (``level1``, ``level_1``) and a file that begins with the
problem's number. Generations are ``level_1_problem_19_sample_0_kernel.py`` (or without ``_kernel``) in any folder; a file of
that name in ``.md`` or ``.txt`` is the model's whole answer, in which the candidate is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from keck.errors import BadRequest
from keck.evaluation.entries import Entry

__all__ = ["Found", "entries_in"]

_LEVEL: Final = re.compile(r"level_?(\d+)", re.IGNORECASE)
_PROBLEM: Final = re.compile(r"(\d+)_(.*)\.py")
_GENERATION: Final = re.compile(r"level_(\d+)_problem_(\d+)_sample_(\d+)(?:_kernel)?\.(py|md|txt)")

_Key = tuple[int, int]


class _Problem(NamedTuple):
    title: str
    file: Path


class Found(NamedTuple):
    """What lies in the folders."""

    entries: list[Entry]
    """By level, problem and sample."""
    unanswered: list[str]
    """Problems without a generation, of the levels that have any."""


def entries_in(problems: Path, generations: Path) -> Found:
    """Every generation with its problem.

    Args:
        problems: a folder that has the levels in it, or is one.
        generations: a folder; the same is fine.

    Raises:
        BadRequest: there are no problems or no generations, two files claim one name, a generation has no problem, or a
            file cannot be read.
    """
    known = _problems_in(problems)
    entries: dict[str, Entry] = {}
    for key, sample, file in _generations_in(generations):
        if key not in known:
            raise BadRequest(
                f"{file.name} has no problem: there is no level {key[0]} number {key[1]} below {problems}"
            )
        entry = _entry(key, sample, file, known[key])
        if entry.name in entries:
            raise BadRequest(f"two files are {entry.name}; one of them is {file}")
        entries[entry.name] = entry
    ordered = sorted(entries.values(), key=lambda one: (one.level, one.problem, one.sample))
    answered = {(entry.level, entry.problem) for entry in ordered}
    levels = {entry.level for entry in ordered}
    return Found(
        ordered,
        [
            f"level {key[0]} problem {key[1]} {problem.title}"
            for key, problem in sorted(known.items())
            if key[0] in levels and key not in answered
        ],
    )


def _problems_in(folder: Path) -> dict[_Key, _Problem]:
    found: dict[_Key, _Problem] = {}
    for file in sorted(folder.rglob("*.py")):
        level, name = _LEVEL.fullmatch(file.parent.name), _PROBLEM.fullmatch(file.name)
        if not level or not name:
            continue
        key = int(level[1]), int(name[1])
        if key in found:
            raise BadRequest(f"two files are level {key[0]} problem {key[1]}: {found[key].file} and {file}")
        found[key] = _Problem(name[2].strip("_"), file)
    if not found:
        raise BadRequest(f"no problems below {folder}: they are named like level1/19_ReLU.py")
    return found


def _generations_in(folder: Path) -> Iterator[tuple[_Key, int, Path]]:
    is_empty = True
    for file in sorted(folder.rglob("*")):
        if name := _GENERATION.fullmatch(file.name):
            is_empty = False
            yield (int(name[1]), int(name[2])), int(name[3]), file
    if is_empty:
        raise BadRequest(
            f"no generations below {folder}: they are named like level_1_problem_19_sample_0_kernel.py"
        )


def _entry(key: _Key, sample: int, file: Path, problem: _Problem) -> Entry:
    return Entry(
        name=f"level_{key[0]}_problem_{key[1]}_sample_{sample}",
        level=key[0],
        problem=key[1],
        title=problem.title,
        sample=sample,
        candidate=_text(file),
        reference=_text(problem.file),
        form="source" if file.suffix == ".py" else "answer",
    )


def _text(file: Path) -> str:
    try:
        # What a model wrote may hold anything; what is no text is judged as what it is like.
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from None
