"""A toolchain's lean half, ready to build with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from keck_cell import ExtensionCall
from keck_compiler.lean.headers import UMBRELLAS

__all__ = ["LeanToolchain", "may_be_lean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeanToolchain:
    """What :mod:`keck_compiler.lean.prepare` made."""

    directory: Path
    words: frozenset[str] = field(repr=False)
    """Every identifier in torch's headers."""


def may_be_lean(call: ExtensionCall) -> bool:
    """Whether an extension includes torch as a whole, so that less of it would do; the sources are read later."""
    if call.kind == "load_inline" and not call.no_implicit_headers:
        return True
    texts = [*call.cpp_sources, *call.cuda_sources, *(text for _, text in (*call.files, *call.headers))]
    return any(header in text for text in texts for header in UMBRELLAS)
