"""A toolchain's lean half, ready to build with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LeanToolchain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeanToolchain:
    """What :mod:`keck_compiler.lean.prepare` made."""

    directory: Path
    words: frozenset[str] = field(repr=False)
    """Every identifier in torch's headers."""
