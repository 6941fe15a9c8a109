"""Which of torch's headers a candidate's sources need besides the lean ones, or why that is in doubt.

The rule: whatever name a source says has every declaration that stock's headers give it, and no other. A name that
stock declares in a header that is not there brings that header; what the rule cannot be kept for is built by the
stock recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keck_compiler.lean.headers import UMBRELLAS
from keck_compiler.lean.index import Index, Place
from keck_compiler.reading.cpp_tokens import Token, cpp_tokens

__all__ = ["Demand", "Doubt", "Needs", "demand_of"]

_OPERATOR = re.compile(r"ATen/ops/(\w+)\.h")
_HEAVY = re.compile(
    r"torch/(nn|optim|data|serialize|jit|detail|special|fft|linalg|nested|sparse|mps|xpu)[/.]"
    r"|torch/csrc/(autograd|jit|distributed|dynamo|profiler|inductor)/|ATen/(core/(ivalue|jit_type|dispatch|boxing)|Functions|NativeFunctions)"
)
"""Headers that cost about as much as all of torch's."""
_BINDING = re.compile(
    r"pybind11/|torch/csrc/(utils/py|Exceptions|Device|Dtype|DynamicTypes|Generator|Stream|python)|.*/[Pp]ython[\d.]*/"
)
_COMPLEX = re.compile(r"complex|^(thrust|cub|nvcuda)$|^_*(THRUST|CUB|CCCL|LIBCUDACXX)", re.IGNORECASE)
"""Words after which the real ``thrust/complex.h`` is there, which c10's complex numbers stand on."""
_TORCH = ("at", "c10", "torch")
"""Namespaces that see each other's names through using directives."""
_PYTHON = ("py", "pybind11")
_MOST_OPERATORS = 48
_HARMLESS_MACRO = re.compile(r"NDEBUG|__CUDA_NO_\w+|CUDA_HAS_\w+|[0-9]\w*")
"""What candidates define or undefine, and only headers look at that both recipes have as they are."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the stock recipe builds this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What the sources of one language need."""

    operators: tuple[str, ...] = ()
    """Names of headers below ``ATen/ops``."""
    types: tuple[str, ...] = ()
    """Headers that ``torch/types.h`` brings."""
    extension: tuple[str, ...] = ()
    """Headers that only ``torch/extension.h`` brings."""
    binding: bool = False
    """Python's and pybind11's headers, which a C++ source with ``torch/extension.h`` always has."""
    complex_numbers: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What an extension's sources need."""

    host: Needs
    cuda: Needs


def demand_of(
    index: Index,
    *,
    host: Sequence[str],
    cuda: Sequence[str],
    headers: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Demand | Doubt:
    """What an extension needs, or why that is in doubt.

    Args:
        index: of the toolchain.
        host: texts of its C++ sources.
        cuda: of its CUDA sources.
        headers: of its own headers, which count for both.
        flags: that its sources are compiled with besides torch's.
    """
    try:
        _refuse_flags(index, flags)
        shared = [_Source(text, own_header=True) for text in headers]
        return Demand(
            host=_needs(index, [_Source(text) for text in host], shared, cuda=False),
            cuda=_needs(index, [_Source(text) for text in cuda], shared, cuda=True),
        )
    except _InDoubt as doubt:
        return Doubt(str(doubt))


class _InDoubt(Exception):
    """Raised where reading stops."""


class _Source:
    """One text: its words, how they are said, and what it includes."""

    def __init__(self, text: str, *, own_header: bool = False) -> None:
        tokens = list(cpp_tokens(text))
        self.words = {token.text for token in tokens if token.kind == "name"}
        self.said = _said(tokens)
        self.includes = [token.text for token in tokens if token.kind == "include"]
        self.umbrellas = frozenset(self.includes) & frozenset(UMBRELLAS)
        self.pastes = any(token.kind == "paste" for token in tokens)
        self.opened = _opened_namespaces(tokens)
        self.conditional = not own_header and _includes_torch_under_condition(tokens)
        self.toplevel_cuda = ("cuda", "") in _said_before_colons(tokens)
        self.defined_before = _defined_before_includes(tokens)


def _said(tokens: Sequence[Token]) -> set[tuple[str, str]]:
    """Words with how they are looked up: ``.`` as a member, the name before ``::``, ``of`` before one, or empty."""
    found: set[tuple[str, str]] = set()
    for at, token in enumerate(tokens):
        if token.kind != "name":
            continue
        before = tokens[at - 1].text if at else ""
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if after == "::":
            found.add((token.text, "of"))
        elif before in (".", "->"):
            found.add((token.text, "."))
        elif before == "::":
            outer = tokens[at - 2] if at > 1 else None
            found.add((token.text, outer.text if outer is not None and outer.kind == "name" else "::"))
        else:
            found.add((token.text, ""))
    return found


def _said_before_colons(tokens: Sequence[Token]) -> set[tuple[str, str]]:
    return {
        (tokens[at].text, "" if at == 0 or tokens[at - 1].text != "::" else "::")
        for at in range(len(tokens) - 1)
        if tokens[at].kind == "name" and tokens[at + 1].text == "::"
    }


def _needs(index: Index, sources: Sequence[_Source], headers: Sequence[_Source], *, cuda: bool) -> Needs:
    everything = [*sources, *headers]
    for source in everything:
        _refuse_doubtful(index, source)
    if not sources:
        return Needs()
    umbrellas = [source.umbrellas.union(*(header.umbrellas for header in headers)) for source in sources]
    if not all(umbrellas):
        raise _InDoubt("a source that includes only parts of torch")
    whole = ["torch/extension.h" in each for each in umbrellas]
    files = _files(index, everything, known=index.host if not cuda and all(whole) else frozenset())
    operators = sorted(found[1] for file in files if (found := _OPERATOR.fullmatch(file)))
    if len(operators) > _MOST_OPERATORS:
        raise _InDoubt(f"{len(operators)} of torch's operators are named")
    others = [file for file in sorted(files) if not _OPERATOR.fullmatch(file)]
    beyond = [file for file in others if file not in index.types]
    if beyond and any(each & {"torch/all.h", "torch/torch.h"} for each in umbrellas) and not all(whole):
        raise _InDoubt(f"`{beyond[0]}` may or may not be there")
    if beyond and any(whole) and not all(whole):
        raise _InDoubt("sources that include different parts of torch")
    beyond = beyond if all(whole) else []
    heavy = next(
        (file for file in (*(o for o in others if o in index.types), *beyond) if _HEAVY.match(file)), None
    )
    if heavy is not None:
        raise _InDoubt(f"`{heavy}` is needed")
    binding = any(_BINDING.match(file) for file in beyond)
    return Needs(
        operators=tuple(operators),
        types=_spelled(index, (file for file in others if file in index.types)),
        extension=_spelled(index, (file for file in beyond if not _BINDING.match(file))),
        binding=binding,
        complex_numbers=any(_COMPLEX.search(word) for source in everything for word in source.words)
        or any(source.toplevel_cuda for source in everything),
    )


def _files(index: Index, sources: Sequence[_Source], *, known: frozenset[str]) -> set[str]:
    said = set[tuple[str, str]]().union(*(source.said for source in sources))
    words = {word for word, how in said if how != "."}
    return {
        place.file
        for word, how in said
        for place in index.places.get(word, ())
        if place.file not in known and _means(place, how) and all(need in words for need in place.needs)
    }


def _means(place: Place, how: str) -> bool:
    """Whether a word said in this way can be found where the place is."""
    if how == "of":  # only classes and namespaces are looked for
        return not _OPERATOR.fullmatch(place.file)
    if place.macro or how not in (".", "::", "std", *_PYTHON, *_TORCH):
        return True
    if how in _PYTHON:
        return place.scope == "pybind11"
    if how in _TORCH:
        return place.scope in _TORCH or bool(place.needs)
    return place.scope == {"std": "std", "::": ""}.get(how)


def _spelled(index: Index, files: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(index.spellings.get(file, file) for file in files))


def _refuse_flags(index: Index, flags: Iterable[str]) -> None:
    """Macros that torch's headers may look at, other languages, and files included by flag."""
    words = [word for flag in flags for word in flag.split()]
    for at, word in enumerate(words):
        if word.startswith(("-D", "-U", "--define-macro", "--undefine-macro")):
            text = word if len(word) > 2 and not word.startswith("--") else " ".join(words[at : at + 2])
            said = re.findall(r"[A-Za-z_]\w*", re.sub(r"^(-[DU]|--\w+-macro=?)", "", text))
            known = [name for name in said if name in index.words and not _HARMLESS_MACRO.fullmatch(name)]
            if known:
                raise _InDoubt(f"`{word}` changes `{known[0]}`, which torch's headers have")
        elif word.startswith(("-include", "-imacros", "--pre-include")):
            raise _InDoubt(f"`{word}` includes a file")
        elif (standard := re.fullmatch(r"-{1,2}std[= ](.*)", word)) and standard[1] not in (
            "c++17",
            "gnu++17",
        ):
            raise _InDoubt(f"`{word}`: headers are known as C++17")


def _refuse_doubtful(index: Index, source: _Source) -> None:
    if source.pastes:
        raise _InDoubt("names put together with `##`")
    if source.conditional:
        raise _InDoubt("torch is included under a condition")
    if source.opened:
        raise _InDoubt(f"`using namespace {source.opened[0]}`")
    changed = sorted(source.defined_before & index.words)
    if changed:
        raise _InDoubt(f"`{changed[0]}` is defined before a header is included")


def _opened_namespaces(tokens: Sequence[Token]) -> list[str]:
    """Namespaces of ``using namespace`` besides std's and those no torch header is in."""
    found = []
    for at in range(len(tokens) - 2):
        if tokens[at].text == "using" and tokens[at + 1].text == "namespace":
            name = (
                tokens[at + 3].text
                if tokens[at + 2].text == "::" and at + 3 < len(tokens)
                else tokens[at + 2].text
            )
            if name in ("at", "torch", "c10", "pybind11", "py"):
                found.append(name)
    return found


def _includes_torch_under_condition(tokens: Sequence[Token]) -> bool:
    last = max((at for at, t in enumerate(tokens) if t.kind == "include" and t.text in UMBRELLAS), default=0)
    return any(
        tokens[at].text == "#" and tokens[at + 1].text in ("if", "ifdef", "ifndef") for at in range(last)
    )


def _defined_before_includes(tokens: Sequence[Token]) -> set[str]:
    """Macros defined, or undefined, before the last header is included."""
    last = max((at for at, token in enumerate(tokens) if token.kind == "include"), default=0)
    return {
        tokens[at + 2].text
        for at in range(last)
        if tokens[at].text == "#" and tokens[at + 1].text in ("define", "undef") and at + 2 < len(tokens)
    }
