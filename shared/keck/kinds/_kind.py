"""What a validation kind declares."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

__all__ = ["Kind"]

_LINE = re.compile(r"""(?:\\\r?\n|\\\r|[^\r\n()\[\]{},;:#'"=+*/%&|^~<>!@`$?-])+""")
"""What may stand in a dotted name or between its parts, to the end of a logical line."""
_PART = re.compile(r"[^\s.\\][\s\\]*\.")
_MAX_PARTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way of judging: a candidate of this form against a reference of that form."""

    name: str
    title: str
    candidate_classes: tuple[str, ...]
    """The first of these that the candidate defines is the class under test."""
    builds_extensions: bool
    """Whether inline extensions are looked for and built."""
    route: str = ""
    """The original service's form-data route; empty: none, and no fields of one."""
    candidate_field: str = ""
    reference_field: str = ""
    missing_candidate: str = ""
    """What the route answers when the candidate's field is absent."""
    reference_names: tuple[str, ...] = ("Model", "get_inputs", "get_init_inputs")

    def candidate_problem(self, source: str) -> str | None:
        """Why the candidate is no candidate of this kind, in one sentence; None if it may be one."""
        defined, problem = _names_bound(source, "candidate")
        if problem is not None:
            return problem
        if not defined.intersection(self.candidate_classes):
            wanted = " or ".join(f"`{name}`" for name in self.candidate_classes)
            return f"the candidate defines no class {wanted}: name your module {wanted}"
        return None

    def reference_problem(self, source: str) -> str | None:
        """Why the reference cannot be judged against, in one sentence; None if it may serve."""
        defined, problem = _names_bound(source, "reference")
        if problem is not None:
            return problem
        missing = [f"`{name}`" for name in self.reference_names if name not in defined]
        if missing:
            return f"the reference does not define {', '.join(missing)}"
        return None


def _names_bound(source: str, side: str) -> tuple[set[str], str | None]:
    """Names a module may bind, found without running it, or why it is not Python."""
    if not source.strip():
        return set(), f"the {side} is empty"
    if _imports_too_long_a_name(source):
        return set(), f"the {side} imports a name of more than {_MAX_PARTS} parts"
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return set(), f"the {side} is not valid Python: {error.msg} (line {error.lineno})"
    except (ValueError, RecursionError, MemoryError) as error:
        return set(), f"the {side} cannot be parsed as Python: {type(error).__name__}"
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names.update(alias.asname or alias.name for alias in aliases)
            case _:
                pass
    return names, None


def _imports_too_long_a_name(source: str) -> bool:
    """Whether a dotted name is so long that Python's parser must not see it.

    It keeps each beginning of an imported name, so that one of 384 KiB takes tens of gigabytes.
    """
    return any(
        ("import" in line[0] or "from" in line[0]) and len(_PART.findall(line[0])) > _MAX_PARTS
        for line in _LINE.finditer(source)
    )
