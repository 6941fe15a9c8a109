"""A manifest: one JSON object a line, for sets that are not in KernelBench's naming."""

from __future__ import annotations

from pathlib import Path

import msgspec

from keck.errors import BadRequest
from keck.evaluation.entries import Entry
from keck.messages import DECODING_ERRORS

__all__ = ["entries_in_manifest"]


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sources as text, or as files beside the manifest."""

    candidate: str = ""
    candidate_file: str = ""
    reference: str = ""
    reference_file: str = ""
    name: str = ""
    level: int | None = None
    problem: int | None = None
    title: str = ""
    sample: int = 0


def entries_in_manifest(file: Path) -> list[Entry]:
    """The entries of a manifest, in its order.

    Raises:
        BadRequest: a line is no entry, a file cannot be read, or a name comes twice; the message has the line.
    """
    entries: dict[str, Entry] = {}
    for number, raw in enumerate(_read(file, file.name).split("\n"), start=1):
        if not raw.strip():
            continue
        where = f"{file}, line {number}"
        try:
            line = msgspec.json.decode(raw, type=_Line)
        except DECODING_ERRORS as error:
            raise BadRequest(f"{where}: {error}") from error
        entry = _entry(line, number, where, file.parent)
        if entry.name in entries:
            raise BadRequest(f"{where}: the name {entry.name} is there already")
        entries[entry.name] = entry
    if not entries:
        raise BadRequest(f"{file} is empty")
    return list(entries.values())


def _entry(line: _Line, number: int, where: str, folder: Path) -> Entry:
    return Entry(
        name=line.name or f"line_{number}",
        level=line.level,
        problem=line.problem,
        title=line.title,
        sample=line.sample,
        candidate=_source(line.candidate, line.candidate_file, f"{where}: candidate", folder),
        reference=_source(line.reference, line.reference_file, f"{where}: reference", folder),
    )


def _source(text: str, file: str, what: str, folder: Path) -> str:
    if bool(text) == bool(file):
        raise BadRequest(f"{what}: give the source, or the name of its file")
    return text or _read(folder / file, what)


def _read(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{what}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{what}: {file} is not UTF-8 text") from None
