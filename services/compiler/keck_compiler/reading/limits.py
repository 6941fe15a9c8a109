"""How much of what was read travels."""

from __future__ import annotations

from collections.abc import Iterable

from keck.messages import Finding, Reading

__all__ = ["MAX_FILE", "bounded", "joined", "shown"]

MAX_FILE = 120
_MAX_FINDINGS = 64
_OF_ONE_CODE = 8
_MAX_NAMES = 64
_MAX_NAME = 120
_MAX_SNIPPET = 160


def shown(line: str) -> str:
    """A line of the candidate's as a snippet: printable, and no longer than a reader needs."""
    line = line.strip()[:_MAX_SNIPPET]
    return "".join(letter if letter.isprintable() else " " for letter in line)


def bounded(reading: Reading) -> Reading:
    """The first few findings of each code, the first names, each once."""
    return joined([reading])


def joined(readings: Iterable[Reading]) -> Reading:
    """Several texts' readings as one."""
    every = list(readings)
    kept: dict[tuple[str, str, int], Finding] = {}
    of_code: dict[str, int] = {}
    for finding in (finding for reading in every for finding in reading.findings):
        place = finding.code, finding.file, finding.line
        if place not in kept and of_code.get(finding.code, 0) < _OF_ONE_CODE:
            kept[place] = finding
            of_code[finding.code] = of_code.get(finding.code, 0) + 1
    return Reading(
        findings=list(kept.values())[:_MAX_FINDINGS],
        kernels=_names(name for reading in every for name in reading.kernels),
        triton=_names(name for reading in every for name in reading.triton),
        namespaces=_names(name for reading in every for name in reading.namespaces),
        library_calls=_names(name for reading in every for name in reading.library_calls),
    )


def _names(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if len(name) <= _MAX_NAME][:_MAX_NAMES]
