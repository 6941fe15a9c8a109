"""What torch's headers declare, by name: enough to tell whether the lean ones would miss something a source says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from keck_compiler.lean.declarations import Declaration, Unit
from keck_compiler.lean.headers import TYPES

__all__ = ["Index", "Place", "index_of", "path_below"]

_VALARRAY = re.compile(r"/(valarray|[a-z]*slice_array|mask_array|indirect_array|gslice)[\w.]*$")
_PART = re.compile(r"[-_](inl|impl)\.h$")
"""A header that only another one may include."""
_OPEN = frozenset({"at", "c10", "torch", "std"})
"""Namespaces whose names are found without saying theirs: through arguments, and through using directives."""


class Place(NamedTuple):
    """One header that declares a name, and what else a source must say to mean that declaration."""

    file: str
    scope: str = ""
    """The outermost namespace; empty: none, or a macro."""
    needs: tuple[str, ...] = ()
    """Words that have to be said besides."""
    macro: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Of one toolchain."""

    places: dict[str, tuple[Place, ...]]
    """Names to the headers outside the lean ones that declare them."""
    types: frozenset[str]
    """All headers that stock's ``torch/types.h`` brings."""
    host: frozenset[str]
    """All that the lean ``torch/extension.h`` brings a C++ source."""
    spellings: dict[str, str]
    """How a header is included: itself, or the public one of its library."""
    words: frozenset[str]
    """Every identifier in stock's headers, wherever it stands."""

    def to_json(self) -> str:
        """As text that :meth:`from_json` reads."""
        sets = {name: sorted(getattr(self, name)) for name in ("types", "host", "words")}
        return json.dumps({"places": self.places, "spellings": self.spellings, **sets}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Index:
        """What :meth:`to_json` wrote; our own file, and so not doubted."""
        content = json.loads(text)
        return cls(
            places={
                name: tuple(Place(file, scope, tuple(needs), macro) for file, scope, needs, macro in places)
                for name, places in content["places"].items()
            },
            types=frozenset(content["types"]),
            host=frozenset(content["host"]),
            spellings=content["spellings"],
            words=frozenset(content["words"]),
        )


def index_of(*, stock: Unit, types: Unit, light: Unit, host: Unit, roots: Mapping[str, str]) -> Index:
    """Compare what stock's headers declare with what the lean ones do.

    Args:
        stock: of ``torch/extension.h``.
        types: of ``torch/types.h``.
        light: of the lean ``torch/types.h``.
        host: of the lean ``torch/extension.h``.
        roots: directories that headers are named below, each with what comes before the name.
    """
    known = _files(light, roots) | {TYPES}
    names = {item.name for item in light.declarations if item.kind in ("name", "macro")}
    in_host = _files(host, roots) | {TYPES}
    places: dict[str, set[Place]] = {}
    repeated: dict[tuple[str, tuple[str, ...]], set[Place]] = {}
    for item in stock.declarations:
        file = path_below(item.file, roots)
        if file in known or file.startswith("<"):
            continue
        if item.kind in ("name", "macro"):
            places.setdefault(item.name, set()).add(_place(item, file))
        elif item.kind in ("forward", "using") and item.name not in names:
            repeated.setdefault((item.name, item.namespaces), set()).add(_place(item, file))
    for (name, _), found in repeated.items():
        # A class declared again, or a name brought from elsewhere, is the same in every header: one will do.
        if name not in places:
            chosen = min(found, key=lambda place: (place.file not in in_host, place.file))
            places.setdefault(name, set()).add(chosen)
    return Index(
        places={name: tuple(sorted(found, key=lambda place: place.file)) for name, found in places.items()},
        types=_files(types, roots),
        host=in_host,
        spellings={
            path_below(file, roots): _spelling(file, stock.includers, roots) for file in stock.includers
        },
        words=frozenset(stock.words),
    )


def path_below(file: str, roots: Mapping[str, str]) -> str:
    """The header's name below the root that it lies in, or its whole path."""
    for root, before in roots.items():
        if file.startswith(root):
            return before + file[len(root) :]
    return file


def _files(unit: Unit, roots: Mapping[str, str]) -> frozenset[str]:
    return frozenset(path_below(file, roots) for file in unit.includers)


def _place(item: Declaration, file: str) -> Place:
    needs = item.namespaces[1:] if item.namespaces and item.namespaces[0] in _OPEN else item.namespaces
    if _VALARRAY.search(file):
        needs = (*needs, "valarray")  # it overloads all of <cmath>, for its own types only
    return Place(
        file=file,
        scope=item.namespaces[0] if item.namespaces else "",
        needs=needs,
        macro=item.kind == "macro",
    )


def _spelling(file: str, includers: Mapping[str, str], roots: Mapping[str, str]) -> str:
    """torch's headers are included by name; of others the one that torch itself includes."""
    while _PART.search(file) and includers.get(file):
        file = includers[file]
    name = path_below(file, roots)
    if not name.startswith("/"):
        return name
    while (above := includers.get(file, "")) and path_below(above, roots).startswith("/"):
        file = above
    return file
