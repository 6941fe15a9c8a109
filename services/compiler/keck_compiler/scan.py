"""Where a candidate calls extension builders, found without running it."""

from __future__ import annotations

import ast
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass

__all__ = ["Site", "builder_sites", "may_build", "missed_sites"]

_BUILDERS = ("load_inline", "load")
_MODULE = "torch.utils.cpp_extension"
_MAX_PARTS = 8


@dataclass(frozen=True, slots=True)
class Site:
    """One call of a builder in the source."""

    first_line: int
    last_line: int
    deferred: bool
    """Inside a function: it may run later than the import, or never."""


def may_build(source: str) -> bool:
    """Whether the source names a builder at all; if not there is nothing to record."""
    return "load_inline" in source or "cpp_extension" in source


def builder_sites(source: str) -> list[Site]:
    """Calls of ``load_inline`` and ``load``, in source order. The source must parse.

    Raises:
        ValueError: nested too deeply: how deep is too deep for the parser depends on who calls it.
    """
    try:
        tree = ast.parse(source)
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deeply") from error
    functions, modules = _names(tree)
    return sorted(_sites(tree, functions, modules), key=lambda site: (site.first_line, site.last_line))


def missed_sites(sites: Collection[Site], lines_hit: Collection[int]) -> list[Site]:
    """Sites from which no recorded call came."""
    lines = sorted(lines_hit)
    return [
        site for site in sites if bisect_left(lines, site.first_line) == bisect_right(lines, site.last_line)
    ]


def _names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Local names of builder functions, and dotted names of torch's module."""
    functions: set[str] = set()
    modules = {_MODULE}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                bound = alias.asname or alias.name
                if node.module == _MODULE and alias.name in _BUILDERS:
                    functions.add(bound)
                elif f"{node.module}.{alias.name}" == _MODULE:
                    modules.add(bound)
        elif isinstance(node, ast.Import):
            modules.update(alias.asname for alias in node.names if alias.name == _MODULE and alias.asname)
    return functions, modules


def _sites(tree: ast.AST, functions: set[str], modules: set[str]) -> Iterator[Site]:
    """With a stack of its own: a tree may be deeper than Python's."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, deferred = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pending += [(decorator, deferred) for decorator in node.decorator_list]
                pending += [(child, True) for child in node.body]
                continue
            case ast.Lambda():
                deferred = True
            case ast.Call() if _is_builder(node.func, functions, modules):
                yield Site(node.lineno, node.end_lineno or node.lineno, deferred)
            case _:
                pass
        pending += [(child, deferred) for child in ast.iter_child_nodes(node)]


def _is_builder(function: ast.expr, functions: set[str], modules: set[str]) -> bool:
    match function:
        case ast.Name(id=name):
            return name in functions
        case ast.Attribute(attr="load_inline"):
            return True
        case ast.Attribute(value=value, attr="load"):
            return _dotted(value) in modules
        case _:
            return False


def _dotted(node: ast.expr) -> str | None:
    """A module's name as it is written, if it is as short as those that are looked for."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < _MAX_PARTS:
        parts.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(parts))) if isinstance(node, ast.Name) else None
