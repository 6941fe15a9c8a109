"""The candidate's own headers that its sources include: content, because paths do not travel."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

__all__ = ["local_headers"]

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([A-Za-z0-9_][A-Za-z0-9_./+-]*)[">]', re.MULTILINE)
_MAX_HEADERS = 128
_MAX_HEADER_BYTES = 1 << 20


def local_headers(
    texts: Sequence[tuple[str, str]], include_paths: Sequence[str], *, beside_source: bool
) -> tuple[tuple[str, str], ...]:
    """Headers reachable from sources, each a (directory, text), through the candidate's own directories.

    Returned with the path they are included by, sorted. A header that is not found is left to the compiler,
    which looks in the toolchain and says what is missing.
    """
    found: dict[str, str] = {}
    pending = [(directory if beside_source else "", "", text) for directory, text in texts]
    while pending and len(found) < _MAX_HEADERS:
        root, below, text = pending.pop()
        for name in _INCLUDE.findall(text):
            for base, inside in _candidates(root, below, include_paths, name):
                if inside in found:
                    break
                content = _read(os.path.join(base, inside))
                if content is not None:
                    found[inside] = content
                    pending.append((base, os.path.dirname(inside), content))
                    break
    return tuple(sorted(found.items()))


def _candidates(root: str, below: str, include_paths: Sequence[str], name: str) -> list[tuple[str, str]]:
    """(directory, path below it) in the order a compiler looks: beside the includer, then ``-I``."""
    places = [(root, os.path.normpath(os.path.join(below, name)))] if root else []
    places += [(path, os.path.normpath(name)) for path in include_paths]
    return [(base, inside) for base, inside in places if not inside.startswith("..")]


def _read(path: str) -> str | None:
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read(_MAX_HEADER_BYTES + 1)
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) <= _MAX_HEADER_BYTES else None
