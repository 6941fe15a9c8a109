"""What a validation kind declares."""

from __future__ import annotations

import ast
from dataclasses import dataclass

__all__ = ["Kind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way of judging: a candidate of this form against a reference of that form."""

    name: str
    title: str
    candidate_classes: tuple[str, ...]
    """The first of these that the candidate defines is the class under test."""
    builds_extensions: bool
    """Whether inline extensions are looked for and built."""
    route: str
    """The original service's form-data route."""
    candidate_field: str
    reference_field: str
    missing_candidate: str
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
