"""The headers that stand in for torch's in one fast build: the lean ones, and what the sources demand besides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from keck_compiler.lean.demand import Demand, Needs
from keck_compiler.lean.headers import (
    BINDING,
    CUDA_EXTENSION,
    EXTENSION,
    LEAN_TYPES,
    TYPES,
    lean_operator,
)

__all__ = ["write_prelude"]

_OF_ONE = (
    "exp", "log", "log10", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
    "atanh", "conj", "proj",
)  # fmt: skip
_THRUST = "".join((
    "#ifndef KECK_THRUST_COMPLEX\n#define KECK_THRUST_COMPLEX\n",
    "// For templates that nobody instantiates: a source that says \"complex\" gets the real header.\n",
    "namespace thrust {\ntemplate <typename T> struct complex;\n",
    *(f"template <typename T> complex<T> {name}(const complex<T>&);\n" for name in _OF_ONE),
    *(f"template <typename T> T {name}(const complex<T>&);\n" for name in ("abs", "arg", "norm")),
    *(f"template <typename T> complex<T> pow({a}, {b});\n" for a, b in (
        ("const complex<T>&", "const complex<T>&"), ("const complex<T>&", "const T&"), ("const T&", "const complex<T>&"),
    )),
    "template <typename T> complex<T> polar(const T&, const T& = T());\n}\n#endif\n",
))  # fmt: skip


def write_prelude(directory: Path, demand: Demand, *, include: Path) -> None:
    """Write the headers below `directory`, which goes before every other include directory.

    Args:
        directory: where to write.
        demand: what the sources need.
        include: torch's own headers.

    Raises:
        OSError: a header cannot be read or written.
    """
    for name in dict.fromkeys((*demand.host.operators, *demand.cuda.operators)):
        _write(directory / f"ATen/ops/{name}.h", lean_operator(include, name))
    types = (
        f"#ifdef __CUDACC__\n{_includes(_types(demand.cuda))}#else\n{_includes(_types(demand.host))}#endif\n"
    )
    _write(directory / TYPES, _guarded("types", types))
    if demand.host.operators or demand.host.types or demand.host.extension:
        text = f"#ifdef __CUDACC__\n{_includes([TYPES, CUDA_EXTENSION])}#else\n"
        text += _includes((*_types(demand.host), *BINDING, *demand.host.extension)) + "#endif\n"
        _write(directory / EXTENSION, _guarded("extension", text))
    beyond = [*(BINDING if demand.cuda.binding else ()), *demand.cuda.extension]
    _write(directory / CUDA_EXTENSION, _guarded("cuda_extension", _includes(beyond)))
    # All of ATen is part of torch/types.h; torch's own headers that include it mean the real one.
    _write(
        directory / "ATen/ATen.h",
        "#if __INCLUDE_LEVEL__ == 1\n#include <torch/types.h>\n#else\n#include_next <ATen/ATen.h>\n#endif\n",
    )
    for name in ("all", "torch"):
        _write(directory / f"torch/{name}.h", _guarded(name, "#include <torch/types.h>\n"))
    if not demand.cuda.complex_numbers:
        _write(directory / "thrust/complex.h", _THRUST)


def _types(needs: Needs) -> list[str]:
    return [LEAN_TYPES, *(f"ATen/ops/{name}.h" for name in needs.operators), *needs.types]


def _includes(names: Iterable[str]) -> str:
    return "".join(
        f'#include "{name}"\n' if name.startswith("/") else f"#include <{name}>\n" for name in names
    )


def _guarded(name: str, text: str) -> str:
    return f"#ifndef KECK_PRELUDE_{name}\n#define KECK_PRELUDE_{name}\n{text}#endif\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
