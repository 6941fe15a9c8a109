"""What a candidate's Python text shows. Comments are not in the tree, and docstrings are passed over."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator

from keck.messages import Finding, Reading
from keck_compiler.reading.cpp_source import read_cpp
from keck_compiler.reading.limits import bounded, joined, shown
from keck_compiler.reading.vocabulary import (
    COMPUTING,
    COMPUTING_METHODS,
    GENERATORS,
    HOLDERS,
    INTROSPECTION_ATTRIBUTES,
    INTROSPECTION_CALLS,
    INTROSPECTION_MODULES,
    LIBRARY_MODULES,
    PYTHON_LOW_TYPES,
    TORCH_SETTINGS,
)

__all__ = ["names_low_types", "read_python", "read_strings"]

FILE = "candidate.py"
_MAX_PARTS = 8
_CPP_MARKS = ("__global__", "#include", "torch::Tensor", "at::Tensor")
_NOT_CALLED = ("__init__", "get_inputs", "get_init_inputs", "extra_repr")
"""Functions whose work is not `forward`'s."""


def read_python(source: str, tree: ast.Module, *, low_types: bool) -> Reading:
    """Findings and names of a candidate's Python.

    Args:
        source: its text.
        tree: the same, parsed.
        low_types: the reference uses types of low precision itself, so that they mean nothing here.
    """
    reader = _Reader(source, tree)
    findings = list(reader.findings(low_types=low_types))
    return bounded(Reading(findings=findings, triton=list(reader.triton_kernels())))


def read_strings(tree: ast.Module, *, low_types: bool) -> Reading:
    """The same of the C++ in a candidate's strings, docstrings excepted, read as C++."""
    documentation = set(_docstrings(tree))
    return joined(
        read_cpp([(FILE, node.value)], low_types=low_types, line_offset=node.lineno - 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
        and any(mark in node.value for mark in _CPP_MARKS)
    )


def names_low_types(tree: ast.Module) -> bool:
    """Whether a text names any type of less precision than float32."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in PYTHON_LOW_TYPES)
        or (isinstance(node, ast.Name) and node.id in PYTHON_LOW_TYPES)
        for node in ast.walk(tree)
    )


class _Reader:
    def __init__(self, source: str, tree: ast.Module) -> None:
        self._lines = source.splitlines()
        self._tree = tree
        self._nodes = list(ast.walk(tree))
        self._local = _imported_names(self._nodes)
        self._global = {"self", *_bound_at_top(tree), *self._local}
        self._defined = {node.name for node in self._nodes if isinstance(node, ast.ClassDef)}
        self._loaded = Counter(
            node.id for node in self._nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )
        self._layers = set(self._assigned_layers())
        self._extensions = dict(self._assigned_extensions())

    def findings(self, *, low_types: bool) -> Iterator[Finding]:
        for node in self._nodes:
            for code in self._codes(node, low_types=low_types):
                yield self._finding(code, node)
        for function in self._nodes:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from self._in_function(function)
        yield from self._unused()

    def triton_kernels(self) -> Iterator[str]:
        for node in self._nodes:
            if isinstance(node, ast.FunctionDef) and any(map(self._is_triton, node.decorator_list)):
                yield node.name

    # --- what one node says

    def _codes(self, node: ast.AST, *, low_types: bool) -> Iterator[str]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _of_module(alias.name)
            case ast.ImportFrom(module=module):
                yield from _of_module(module or "")
            case ast.ClassDef(bases=bases):
                if any(self._is_reference(base) for base in bases):
                    yield "reference.imported"
            case ast.Call():
                yield from self._of_call(node)
            case ast.Attribute() | ast.Name():
                yield from self._of_name(node, low_types=low_types)
            case ast.Assign(targets=targets):
                if any(self._patches(target) for target in targets):
                    yield "introspection"
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                if self._patches(target):
                    yield "introspection"
            case _:
                pass

    def _of_call(self, node: ast.Call) -> Iterator[str]:
        name = self._dotted(node.func) or ""
        first = node.args[0] if node.args else None
        literal = isinstance(first, ast.Constant)
        if name in ("exec", "eval", "builtins.exec", "builtins.eval") and not literal:
            yield "introspection"
        if name in ("importlib.import_module", "__import__"):
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield from _of_module(first.value)
            else:
                yield "introspection"
        if name in ("getattr", "setattr") and node.args:
            computed = len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)
            root = self._dotted(node.args[0]) or ""
            if (name == "setattr" or computed) and _is_torchs(root):
                yield "introspection"

    def _of_name(self, node: ast.Attribute | ast.Name, *, low_types: bool) -> Iterator[str]:
        if not isinstance(node.ctx, ast.Load):
            return
        name = self._dotted(node) or ""
        last = node.attr if isinstance(node, ast.Attribute) else name.rpartition(".")[2]
        if name in GENERATORS:
            yield "delegation.torch_compile"
        if name in INTROSPECTION_CALLS or last in INTROSPECTION_ATTRIBUTES:
            yield "introspection"
        if last in PYTHON_LOW_TYPES and not low_types and isinstance(node, ast.Attribute):
            yield "precision.low_types"

    def _is_reference(self, base: ast.expr) -> bool:
        """``Model`` as a base that this text does not define."""
        name = self._dotted(base)
        return name is not None and name.rpartition(".")[2] == "Model" and name not in self._defined

    def _patches(self, target: ast.expr) -> bool:
        name = self._dotted(target) if isinstance(target, ast.Attribute) else None
        return name is not None and _is_torchs(name) and not name.startswith(TORCH_SETTINGS)

    # --- what one function says

    def _in_function(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
        if function.name in _NOT_CALLED or any(map(self._is_triton, function.decorator_list)):
            return
        computing = [node for node in _within(function.body) if self._computes(node)]
        for node in computing:
            yield self._finding("delegation.aten", node)
        last_line = max((getattr(node, "lineno", 0) for node in computing), default=0)
        for node in _within(function.body):
            suppressed = self._suppresses(node) and last_line > getattr(node, "end_lineno", 0)
            if suppressed or (isinstance(node, ast.Try) and self._falls_back(node)):
                yield self._finding("fallback.try_except", node)
        yield from self._unread_results(function)

    def _computes(self, node: ast.AST) -> bool:
        match node:
            case ast.BinOp(op=ast.MatMult()):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=attr)):
                return attr in self._layers
            case ast.Call(func=function):
                name = self._dotted(function)
                if name is not None and _is_torchs(name):
                    return name.rpartition(".")[2] in COMPUTING or _is_layer(name)
                return (
                    isinstance(function, ast.Attribute)
                    and function.attr in COMPUTING_METHODS
                    and self._may_be_tensor(function.value)
                )
            case _:
                return False

    def _may_be_tensor(self, value: ast.expr) -> bool:
        """A local variable or the result of something; a module's names are extensions and libraries."""
        while isinstance(value, ast.Attribute):
            value = value.value
        return not isinstance(value, ast.Name) or value.id not in self._global

    def _falls_back(self, node: ast.Try) -> bool:
        return any(self._computes(inner) for handler in node.handlers for inner in _within(handler.body))

    def _suppresses(self, node: ast.AST) -> bool:
        contexts = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
        return any(
            isinstance(context, ast.Call) and self._dotted(context.func) == "contextlib.suppress"
            for context in contexts
        )

    def _unread_results(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
        """A call of something of the candidate's own whose result is given a name that nobody reads."""
        for node in _within(function.body):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)):
                    whose = self._dotted(called) or ""
                    if (
                        not self._loaded[name]
                        and "." in whose
                        and whose.partition(".")[0] in self._extensions
                    ):
                        yield self._finding("provenance.decoy_kernel", node)
                case _:
                    pass

    # --- what the whole text says

    def _unused(self) -> Iterator[Finding]:
        """Extensions and Triton kernels that are made and never named again."""
        for node in self._nodes:
            is_kernel = isinstance(node, ast.FunctionDef) and any(map(self._is_triton, node.decorator_list))
            if isinstance(node, ast.FunctionDef) and is_kernel and not self._loaded[node.name]:
                yield self._finding("provenance.decoy_kernel", node)
        for name, node in self._extensions.items():
            if not self._loaded[name]:
                yield self._finding("provenance.decoy_kernel", node)

    def _assigned_extensions(self) -> Iterator[tuple[str, ast.AST]]:
        """Names that hold what ``load_inline`` returned, and where they are given."""
        for node in self._nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called, keywords=named)):
                    # One that only registers operators is used by their names.
                    registers = any(keyword.arg == "is_python_module" for keyword in named)
                    if (self._dotted(called) or "").rpartition(".")[2] == "load_inline" and not registers:
                        yield name, node
                case _:
                    pass

    def _assigned_layers(self) -> Iterator[str]:
        for node in self._nodes:
            match node:
                case ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id="self"), attr=attr)], value=ast.Call(func=called)
                ):
                    if _is_layer(self._dotted(called) or ""):
                        yield attr
                case _:
                    pass

    def _is_triton(self, decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        return self._dotted(called) in ("triton.jit", "triton.runtime.jit", "triton.experimental.gluon.jit")

    def _dotted(self, node: ast.expr) -> str | None:
        """The name of what an expression names, import aliases resolved; None where it names nothing."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) < _MAX_PARTS:
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return ".".join((self._local.get(node.id, node.id), *reversed(parts)))

    def _finding(self, code: str, node: ast.AST) -> Finding:
        line = getattr(node, "lineno", 0)
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return Finding(code=code, file=FILE, line=line, snippet=shown(text))


def _imported_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Local names of modules and of what is imported from them."""
    local: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    local[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                local[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return local


def _bound_at_top(tree: ast.Module) -> Iterator[str]:
    """Names that the module itself binds, also below an ``if`` or ``try``, and not in functions."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Lambda():
                pass
            case _:
                pending += ast.iter_child_nodes(node)


def _of_module(name: str) -> Iterator[str]:
    root = name.partition(".")[0]
    if root in ("reference", "__main__"):
        yield "reference.imported"
    if root in INTROSPECTION_MODULES or name == "importlib.util":
        yield "introspection"
    if root in LIBRARY_MODULES or name in LIBRARY_MODULES:
        yield "delegation.library"


def _is_torchs(name: str) -> bool:
    return name == "torch" or name.startswith("torch.")


def _is_layer(name: str) -> bool:
    """Whether a name is that of a layer of ``torch.nn``, which computes when it is called."""
    parent, _, last = name.rpartition(".")
    return parent in ("torch.nn", "torch.nn.modules") and last[:1].isupper() and last not in HOLDERS


def _within(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every node below, with a stack of its own: a tree may be deeper than Python's."""
    for statement in body:
        yield from ast.walk(statement)


def _docstrings(tree: ast.Module) -> Iterator[int]:
    """Strings that are statements of their own: documentation, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)
