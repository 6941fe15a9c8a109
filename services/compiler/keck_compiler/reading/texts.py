"""Questions to the process that reads texts, and its answers."""

from __future__ import annotations

import ast

import msgspec

from keck.kinds import kind_named
from keck.messages import Reading
from keck_compiler.reading.cpp_source import read_cpp
from keck_compiler.reading.python_source import names_low_types, read_python, read_strings
from keck_compiler.scan import Site, builder_sites, may_build

__all__ = ["Answer", "Question", "ReadCandidate", "ReadExtension", "ReadFindings", "ReadReference", "answer"]

_MAX_CPP = 256 * 1024
"""Characters of one extension's texts: the rest of what a candidate computes is built, and not read."""


class ReadReference(msgspec.Struct, frozen=True, kw_only=True, tag="reference"):
    """Whether a text can be a reference."""

    kind: str
    source: str


class ReadCandidate(msgspec.Struct, frozen=True, kw_only=True, tag="candidate"):
    """Whether a text can be a candidate, and what it builds."""

    kind: str
    source: str


class ReadFindings(msgspec.Struct, frozen=True, kw_only=True, tag="findings"):
    """What a candidate's text shows."""

    source: str
    low_types: bool
    """The reference uses types of low precision itself, so that they mean nothing here."""


class ReadExtension(msgspec.Struct, frozen=True, kw_only=True, tag="extension"):
    """What the texts of an extension show."""

    texts: list[tuple[str, str]]
    low_types: bool


Question = ReadReference | ReadCandidate | ReadFindings | ReadExtension


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was read."""

    problem: str | None = None
    """Why the text is not of the form it must have, in one sentence."""
    unreadable: str | None = None
    """Why it cannot be read."""
    failed: str | None = None
    """An error of the reader's own, which says nothing about the text."""
    sites: list[Site] = []
    """Where extension builders are called."""
    low_types: bool = False
    """Whether it names types of low precision."""
    reading: Reading = Reading()
    strings: Reading = Reading()
    """Of the C++ in a candidate's strings."""


def answer(question: Question) -> Answer:
    """Read; what a text does to the reader is the caller's to bound."""
    match question:
        case ReadReference(kind=kind, source=source):
            problem = kind_named(kind).reference_problem(source)
            return (
                Answer(problem=problem) if problem else Answer(low_types=names_low_types(ast.parse(source)))
            )
        case ReadCandidate():
            return _candidate(question)
        case ReadFindings(source=source, low_types=low_types):
            tree = ast.parse(source)
            return Answer(
                reading=read_python(source, tree, low_types=low_types),
                strings=read_strings(tree, low_types=low_types),
            )
        case ReadExtension(texts=texts, low_types=low_types):
            return Answer(reading=read_cpp(_cut(texts), low_types=low_types))


def _candidate(question: ReadCandidate) -> Answer:
    source = question.source
    kind = kind_named(question.kind)
    problem = kind.candidate_problem(source)
    if problem is not None:
        return Answer(problem=problem)
    if not (kind.builds_extensions and may_build(source)):
        return Answer()
    try:
        return Answer(sites=builder_sites(source))
    except ValueError as error:
        return Answer(unreadable=str(error))


def _cut(texts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kept, room = [], _MAX_CPP
    for name, text in texts:
        kept.append((name, text[:room]))
        room -= len(kept[-1][1])
    return kept
