"""Reading both texts of a request: whether they are of the kind's form, and what the candidate's shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from keck.errors import Retry
from keck.logs import logger
from keck.messages import CheckRequested, Reading
from keck.verdict import Verdict
from keck_cell import ExtensionCall
from keck_compiler.failure import Failure, format_failure
from keck_compiler.reading.limits import joined
from keck_compiler.reading.reader import Reader, Unreadable
from keck_compiler.reading.texts import (
    Answer,
    ReadCandidate,
    ReadExtension,
    ReadFindings,
    ReadReference,
)
from keck_compiler.scan import Site

__all__ = ["Form", "read_findings", "read_form"]


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of a request whose texts are of the form they must have."""

    sites: Sequence[Site]
    """Where the candidate calls extension builders."""
    low_types: bool
    """Whether the reference names types of low precision."""


async def read_form(reader: Reader, request: CheckRequested) -> Form | Failure:
    """The form of both texts, or what is wrong with one.

    The reference first: where it cannot be judged against, nothing is learnt about the candidate.

    Raises:
        Retry: this machine cannot read now.
    """
    try:
        reference = await reader.read(ReadReference(kind=request.kind, source=request.reference))
    except Unreadable as error:
        return _reference_failure(f"the reference {error}")
    if (problem := _problem(reference, "the reference")) is not None:
        return _reference_failure(problem)
    try:
        candidate = await reader.read(ReadCandidate(kind=request.kind, source=request.candidate))
    except Unreadable as error:
        return format_failure(f"the candidate {error}")
    if (problem := _problem(candidate, "the candidate")) is not None:
        return format_failure(problem)
    return Form(candidate.sites, reference.low_types)


async def read_findings(
    reader: Reader, request: CheckRequested, calls: Sequence[ExtensionCall], *, low_types: bool
) -> Reading:
    """What the candidate's text and those of its extensions show; what cannot be read shows nothing.

    Raises:
        Retry: this machine cannot read now.
    """
    if request.candidate == request.reference:
        return Reading()  # a task that is tried on itself
    text = await _read(reader, ReadFindings(source=request.candidate, low_types=low_types))
    # What is built is the authority on what it shows; a string is, where nothing is built from it.
    strings = msgspec.structs.replace(text.strings, findings=[]) if calls else text.strings
    extensions = [
        await _read(reader, ReadExtension(texts=_texts_of(call), low_types=low_types)) for call in calls
    ]
    return joined([text.reading, strings, *(answer.reading for answer in extensions)])


async def _read(reader: Reader, question: ReadFindings | ReadExtension) -> Answer:
    try:
        answer = await reader.read(question)
    except Unreadable as error:
        answer = Answer(unreadable=str(error))
    if answer.unreadable or answer.failed:
        # A text that passed as Python, or that compilers may well take, is not refused for want of hints.
        logger().warning("text_not_read_for_findings", reason=answer.unreadable or answer.failed)
    return answer


def _problem(answer: Answer, side: str) -> str | None:
    if answer.failed is not None:
        logger().error("reading_failed", side=side, error=answer.failed)
        raise Retry(f"reading {side} failed: {answer.failed}", failure_kind="reader_failed")
    if answer.unreadable is not None:
        return f"{side} cannot be read: {answer.unreadable}"
    return answer.problem


def _reference_failure(message: str) -> Failure:
    return Failure(verdict=Verdict.REFERENCE_ERROR, stage="format", message=message)


def _texts_of(call: ExtensionCall) -> list[tuple[str, str]]:
    """An extension's texts, named for people, as UTF-8 can carry them."""
    texts = [
        *((f"{call.name}.cpp", text) for text in call.cpp_sources),
        *((f"{call.name}.cu", text) for text in call.cuda_sources),
        *call.files,
        *call.headers,
    ]
    return [(name, text.encode("utf-8", "replace").decode()) for name, text in texts]
