"""Where a candidate calls extension builders, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Site", "builder_sites", "may_build", "missed_sites"]

_BUILDERS = ("load_inline", "load")
_MODULE = "torch.utils.cpp_extension"


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
    """Calls of ``load_inline`` and ``load``, in source order. The source must parse."""
    tree = ast.parse(source)
    functions, modules = _names(tree)
    finder = _Finder(functions, modules)
    finder.visit(tree)
    return sorted(finder.sites, key=lambda site: site.first_line)


def missed_sites(sites: Collection[Site], lines_hit: Collection[int]) -> list[Site]:
    """Sites from which no recorded call came."""
    return [site for site in sites if not any(site.first_line <= n <= site.last_line for n in lines_hit)]


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


class _Finder(ast.NodeVisitor):
    def __init__(self, functions: set[str], modules: set[str]) -> None:
        self.sites: list[Site] = []
        self._functions = functions
        self._modules = modules
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._depth += 1
        for child in node.body:
            self.visit(child)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def visit_Call(self, node: ast.Call) -> None:
        if self._is_builder(node.func):
            self.sites.append(Site(node.lineno, node.end_lineno or node.lineno, self._depth > 0))
        self.generic_visit(node)

    def _is_builder(self, function: ast.expr) -> bool:
        match function:
            case ast.Name(id=name):
                return name in self._functions
            case ast.Attribute(attr="load_inline"):
                return True
            case ast.Attribute(value=value, attr="load"):
                return ast.unparse(value) in self._modules
            case _:
                return False
