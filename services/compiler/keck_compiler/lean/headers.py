"""Torch's own headers with less in them: declarations stay as they are, bodies and heavy includes go.

What is cut is regular, because torch generates these files; where a torch has them in another form,
:class:`UnsuitedHeaders` says so and that torch is built with the stock recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Lean", "UnsuitedHeaders", "lean_headers", "lean_operator"]

TENSOR_BODY = "ATen/core/TensorBody.h"
FACTORIES = "torch/csrc/autograd/generated/variable_factories.h"
TYPES = "torch/types.h"
FUNCTIONS = "ATen/Functions.h"
OPERATORS = "ATen/TensorOperators.h"
LEAN_TYPES = "keck/types.h"
"""The lean ``torch/types.h``, under a name of its own: what a source includes is made for each build."""
CUDA_EXTENSION = "keck/cuda_extension.h"
"""What ``torch/extension.h`` brings a CUDA source besides, made for each build."""
EXTENSION = "torch/extension.h"
BINDING = ("torch/csrc/utils/pybind.h", "torch/csrc/Exceptions.h")
"""All of torch's and pybind11's casters, and the wrapper around bound functions."""
UMBRELLAS = ("torch/types.h", "torch/all.h", "torch/torch.h", "torch/extension.h")
"""Headers a candidate includes for all of torch; each has a lean one in its place."""
API = "torch/csrc/api/include"

_ONCE, _SYSTEM = "#pragma once\n", "#pragma GCC system_header\n"
"""No warnings, as for torch's own: they stand where ``-isystem`` puts those."""
_ARGUMENTS = {
    "ITensorListRef": "ATen/core/IListRef.h",
    "at::Generator": "ATen/core/Generator.h",
    "c10::List<": "ATen/core/List.h",
}
"""Classes that arguments are converted to: stock has them whole wherever it has the operator."""
_MEMBER = re.compile(
    r"^inline [^\n;{}]*? Tensor::\w+\([^\n]*\) const \{\n(?:    [^\n]*\n)*\}\n", re.MULTILINE
)
_INCLUDE = re.compile(r"^#include <([^>\n]+)>[^\n]*\n", re.MULTILINE)
_INLINE = re.compile(r"^inline ", re.MULTILINE)
_ALWAYS = f"#include <{OPERATORS}>\n#include <{FUNCTIONS}>\n#include <ATen/core/Formatting.h>"
"""What names no function of its own but is meant by operators and by every candidate's ``size``."""
_LEAST_MEMBERS = 300
_LEAST_FACTORIES = 40


class UnsuitedHeaders(Exception):
    """This torch's headers are not of the form that the fast recipe cuts."""


@dataclass(frozen=True, slots=True)
class Lean:
    """Lean headers by the path they shadow, and the source of what was cut out of them."""

    files: Mapping[str, str]
    bodies: str


def lean_headers(include: Path) -> Lean:
    """Cut the headers below torch's `include` directory.

    Raises:
        UnsuitedHeaders: they have another form.
        OSError: one is not there.
    """
    body = (include / TENSOR_BODY).read_text()
    members = _MEMBER.findall(body)
    if len(members) < _LEAST_MEMBERS or "#include <ATen/MethodOperators.h>\n" not in body:
        raise UnsuitedHeaders(f"{TENSOR_BODY} does not define its methods as expected")
    body = _MEMBER.sub("", body)
    body = body.replace("#include <ATen/MethodOperators.h>\n", "#include <ATen/core/ATen_fwd.h>\n")
    factories, definitions = _without_bodies((include / FACTORIES).read_text())
    if len(definitions) < _LEAST_FACTORIES:
        raise UnsuitedHeaders(f"{FACTORIES} does not define its functions as expected")
    factories = _keep_includes(
        factories,
        {"ATen/core/Tensor.h", "c10/util/ArrayRef.h", "c10/core/MemoryFormat.h", "functional", "initializer_list",
         "utility"},
    )  # fmt: skip
    factories = _replace_once(
        factories, "namespace torch {", "namespace torch {\nnamespace detail { struct TensorDataContainer; }"
    )
    whole = (include / FUNCTIONS).read_text()
    functions, overloads = _without_bodies(_keep_includes(whole, {"ATen/core/Tensor.h"}))
    types = (include / API / TYPES).read_text()
    types = _replace_once(types, "#include <ATen/ATen.h>", _ALWAYS)
    types = _keep_includes(types, {OPERATORS, FUNCTIONS, "ATen/core/Formatting.h", "optional", FACTORIES})
    operators = _replace_once(
        (include / OPERATORS).read_text(), "#include <ATen/Functions.h>", "#include <ATen/ops/empty_like.h>"
    )
    files = {
        TENSOR_BODY: body,
        FACTORIES: factories,
        OPERATORS: operators,
        FUNCTIONS: functions,
        LEAN_TYPES: types,
        "ATen/ops/empty_like.h": lean_operator(include, "empty_like"),
        # Precompiled for C++ sources, and a compiler takes that for a source's very first include only.
        EXTENSION: f"#ifdef __CUDACC__\n#include <{TYPES}>\n#include <{CUDA_EXTENSION}>\n#else\n"
        f"#include <{LEAN_TYPES}>\n{_includes(BINDING)}#endif\n",
    }
    files = {name: text.replace(_ONCE, _ONCE + _SYSTEM, 1) for name, text in files.items()}
    return Lean(files, _bodies(members, definitions, overloads, _operators_in(whole)))


def lean_operator(include: Path, name: str) -> str:
    """The header of one operator with all its overloads, without what it includes for others.

    Raises:
        OSError: there is no such operator.
    """
    text = (include / f"ATen/ops/{name}.h").read_text()
    whole = [header for word, header in _ARGUMENTS.items() if word in text]
    return _INCLUDE.sub(lambda found: found[0] if found[1].endswith("_ops.h") else "", text).replace(
        _ONCE, f"{_ONCE}{_SYSTEM}{_includes(whole)}", 1
    )


def _bodies(members: list[str], definitions: list[str], overloads: list[str], operators: list[str]) -> str:
    """One source that defines, for the linker, what the lean headers only declare."""
    methods = "".join(member.removeprefix("inline ") for member in members)
    return (
        f"#include <{LEAN_TYPES}>\n{_includes(operators)}#include <torch/csrc/autograd/variable.h>\n"
        "#include <torch/csrc/api/include/torch/detail/TensorDataContainer.h>\n"
        "#include <ATen/ATen.h>\n#include <ATen/TracerMode.h>\n#include <ATen/MethodOperators.h>\n"
        f"namespace at {{\n{methods}{''.join(overloads)}}}\nnamespace torch {{\n{''.join(definitions)}}}\n"
    )


def _operators_in(text: str) -> list[str]:
    return [name for name in _INCLUDE.findall(text) if name.startswith("ATen/ops/")]


def _includes(names: Iterable[str]) -> str:
    return "".join(f"#include <{name}>\n" for name in names)


def _keep_includes(text: str, kept: set[str]) -> str:
    return _INCLUDE.sub(lambda found: found[0] if found[1] in kept else "", text)


def _replace_once(text: str, old: str, new: str) -> str:
    if old not in text:
        raise UnsuitedHeaders(f"a header without `{old}`")
    return text.replace(old, new, 1)


def _without_bodies(text: str) -> tuple[str, list[str]]:
    """Inline functions turned into declarations, and their definitions without default arguments."""
    parts: list[str] = []
    definitions: list[str] = []
    at = 0
    while (found := _INLINE.search(text, at)) is not None:
        opening = _body_of(text, found.end())
        if opening is None:
            raise UnsuitedHeaders("an inline function without a body")
        closing = _closing_brace(text, opening)
        head = text[found.end() : opening].rstrip()
        parts += [text[at : found.start()], head, ";"]
        definitions.append(f"{_without_defaults(head)} {text[opening:closing]}\n")
        at = closing
    return "".join((*parts, text[at:])), definitions


def _body_of(text: str, at: int) -> int | None:
    depth = 0
    for place in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0 and text[place] == "{":
            return place
        if depth == 0 and text[place] == ";":
            return None
    return None


def _closing_brace(text: str, at: int) -> int:
    depth = 0
    for place in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise UnsuitedHeaders("a body that does not end")


def _without_defaults(head: str) -> str:
    """A function's head as its definition has it: default arguments belong to the declaration."""
    kept: list[str] = []
    depth, skipping = 0, False
    for letter in head:
        if letter in "({<[":
            depth += 1
        elif letter in ")}>]":
            depth -= 1
        if skipping and ((depth == 1 and letter == ",") or depth == 0):
            skipping = False
        elif depth == 1 and letter == "=":
            skipping = True
            while kept and kept[-1] == " ":
                kept.pop()
        if not skipping:
            kept.append(letter)
    return "".join(kept)
