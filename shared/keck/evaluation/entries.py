"""One generation and the problem it answers."""

from __future__ import annotations

from typing import Literal

import msgspec

from keck.hashing import digest_of
from keck.messages import Options

__all__ = ["Entry", "digest_of_entry"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be judged, and where it belongs."""

    name: str
    """Unique in its set; of KernelBench's naming ``level_1_problem_19_sample_0``."""
    level: int | None = None
    problem: int | None = None
    title: str = ""
    """The problem's name (``ReLU``)."""
    sample: int = 0
    candidate: str
    """Its source, or the model's whole answer; see `form`."""
    reference: str
    form: Literal["source", "answer"] = "source"


def digest_of_entry(entry: Entry, *, kind: str, options: Options) -> str:
    """What makes two entries the same check: 64 hex digits."""
    said = msgspec.json.encode(options).decode()
    return digest_of(kind, entry.form, entry.candidate, entry.reference, said)
