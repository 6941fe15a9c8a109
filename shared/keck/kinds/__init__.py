"""Validation kinds: what a candidate of each kind must look like, and how it came in.

A kind is one small module with a :class:`Kind` in it and one line in ``KINDS`` below. :mod:`keck.kinds.torch`
is the example that ``docs/adding-a-kind.md`` walks through.
"""

from __future__ import annotations

from keck.errors import BadRequest
from keck.kinds._kind import Kind
from keck.kinds.kernel import KERNEL
from keck.kinds.lint import LINT
from keck.kinds.torch import TORCH

__all__ = ["KINDS", "Kind", "kind_named", "kinds_with_routes"]

KINDS: dict[str, Kind] = {kind.name: kind for kind in (KERNEL, TORCH, LINT)}


def kinds_with_routes() -> list[Kind]:
    """Those that come in by a form-data route of their own too."""
    return [kind for kind in KINDS.values() if kind.route]


def kind_named(name: str) -> Kind:
    """The kind of this name.

    Raises:
        BadRequest: there is none; the message lists those there are.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise BadRequest(f"unknown kind {name!r}; known are {', '.join(sorted(KINDS))}") from None
