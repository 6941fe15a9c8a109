"""From the arguments of a ``load_inline`` or ``load`` call to an :class:`ExtensionCall`.

Arguments are bound by torch's own signatures (a test compares them with the installed torch), and what torch
would refuse is refused here too, with a sentence instead of an ``AttributeError``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keck_cell.extension_call import MAX_CALL_BYTES, ExtensionCall, ExtensionCallError, require_name
from keck_cell.headers import local_headers
from keck_cell.paths import is_toolchain, portable

__all__ = ["SIGNATURE_OF_LOAD", "SIGNATURE_OF_LOAD_INLINE", "call_from_load", "call_from_load_inline"]


def _load_inline(  # noqa: PLR0917 - torch's own parameters, in torch's order
    name: Any, cpp_sources: Any, cuda_sources: Any = None, sycl_sources: Any = None, functions: Any = None,
    extra_cflags: Any = None, extra_cuda_cflags: Any = None, extra_sycl_cflags: Any = None,
    extra_ldflags: Any = None, extra_include_paths: Any = None, build_directory: Any = None,
    verbose: Any = False, with_cuda: Any = None, with_sycl: Any = None, is_python_module: Any = True,
    with_pytorch_error_handling: Any = True, keep_intermediates: Any = True, use_pch: Any = False,
    no_implicit_headers: Any = False,
) -> None: ...  # fmt: skip


def _load(  # noqa: PLR0917 - torch's own parameters, in torch's order
    name: Any, sources: Any, extra_cflags: Any = None, extra_cuda_cflags: Any = None,
    extra_sycl_cflags: Any = None, extra_ldflags: Any = None, extra_include_paths: Any = None,
    build_directory: Any = None, verbose: Any = False, with_cuda: Any = None, with_sycl: Any = None,
    is_python_module: Any = True, is_standalone: Any = False, keep_intermediates: Any = True,
) -> None: ...  # fmt: skip


SIGNATURE_OF_LOAD_INLINE = inspect.signature(_load_inline)
SIGNATURE_OF_LOAD = inspect.signature(_load)
_SOURCE_SUFFIXES = (".cu", ".cpp", ".cc", ".cxx", ".c")


def call_from_load_inline(args: Sequence[Any], kwargs: Mapping[str, Any]) -> ExtensionCall:
    """The call that ``load_inline(*args, **kwargs)`` means.

    Raises:
        ExtensionCallError: torch would refuse it, or Keck does; the message says what to write instead.
    """
    given = _bind("load_inline", SIGNATURE_OF_LOAD_INLINE, args, kwargs)
    name = _name(given)
    bare = bool(given["no_implicit_headers"])
    cpp_sources = _sources(name, "cpp_sources", given["cpp_sources"], bare=bare)
    cuda_sources = _sources(name, "cuda_sources", given["cuda_sources"] or [], bare=bare)
    includes, headers = _includes(given, [(os.getcwd(), text) for text in (*cpp_sources, *cuda_sources)])
    call = ExtensionCall(
        kind="load_inline",
        name=name,
        cpp_sources=cpp_sources,
        cuda_sources=cuda_sources,
        functions=_functions(name, given["functions"]),
        extra_include_paths=includes,
        headers=headers,
        no_implicit_headers=bare,
        with_pytorch_error_handling=bool(given["with_pytorch_error_handling"]),
        **_shared(name, given),
    )
    call.check()
    return call


def call_from_load(args: Sequence[Any], kwargs: Mapping[str, Any]) -> ExtensionCall:
    """The call that ``load(*args, **kwargs)`` means; its source files are read now.

    Raises:
        ExtensionCallError: torch would refuse it, or Keck does; the message says what to write instead.
    """
    given = _bind("load", SIGNATURE_OF_LOAD, args, kwargs)
    name = _name(given)
    if given["is_standalone"]:
        raise ExtensionCallError(f"extension `{name}`: is_standalone=True builds a program, not a module")
    paths = _paths(name, "sources", given["sources"])
    texts = [(os.path.abspath(path), _read(name, path)) for path in paths]
    includes, headers = _includes(given, [(os.path.dirname(path), text) for path, text in texts])
    call = ExtensionCall(
        kind="load",
        name=name,
        files=tuple((os.path.basename(path), text) for path, text in texts),
        extra_include_paths=includes,
        headers=headers,
        **_shared(name, given),
    )
    call.check()
    return call


def _bind(
    function: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ExtensionCallError(f"{function}() {str(error)[:300]}") from error
    bound.apply_defaults()
    for sycl in ("sycl_sources", "extra_sycl_cflags", "with_sycl"):
        if bound.arguments.get(sycl):
            hint = " (the fourth positional argument; give `functions` by name)" if len(args) > 3 else ""
            raise ExtensionCallError(f"{function}() was given `{sycl}`{hint}: SYCL is not built here")
    return dict(bound.arguments)


def _shared(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    with_cuda = given["with_cuda"]
    return {
        "extra_cflags": _flags(name, "extra_cflags", given["extra_cflags"]),
        "extra_cuda_cflags": _flags(name, "extra_cuda_cflags", given["extra_cuda_cflags"]),
        "extra_ldflags": _flags(name, "extra_ldflags", given["extra_ldflags"]),
        "with_cuda": None if with_cuda is None else bool(with_cuda),
        "is_python_module": bool(given["is_python_module"]),
    }


def _name(given: Mapping[str, Any]) -> str:
    if not isinstance(given["name"], str):
        raise ExtensionCallError(f"the extension name must be a string, not {type(given['name']).__name__}")
    require_name(given["name"])
    return str(given["name"])


def _paths(name: str, field: str, value: Any) -> list[str]:
    """Paths as texts, whether one or several are given.

    Raises:
        ExtensionCallError: one is no path of a file.
    """
    given = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(given, Iterable):
        raise ExtensionCallError(
            f"`{field}` of extension `{name}` must be a list of paths, not {type(value).__name__}"
        )
    paths: list[str] = []
    for path in given:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(text, str) or "\0" in text:
            raise ExtensionCallError(
                f"`{field}` of extension `{name}` must hold paths, not {type(path).__name__}"
                if not isinstance(text, str)
                else f"`{field}` of extension `{name}` holds a path with a null character"
            )
        paths.append(str(text))
    return paths


def _sources(name: str, field: str, value: Any, *, bare: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        return (str(value),)
    # torch inserts its headers into the list it is given, so that a tuple works only without them.
    if not isinstance(value, list | tuple if bare else list):
        raise ExtensionCallError(
            f"`{field}` of extension `{name}` must be a string or a list of strings, "
            f"not {type(value).__name__}"
        )
    return _all_text(name, field, value)


def _flags(name: str, field: str, value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise ExtensionCallError(
            f"`{field}` of extension `{name}` must be a list of strings, not {type(value).__name__}"
        )
    return tuple(portable(flag) for flag in _all_text(name, field, value))


def _functions(name: str, value: Any) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return ((str(value), str(value)),)
    if isinstance(value, dict):
        pairs = _all_text(name, "functions", [*value.keys(), *value.values()])
        return tuple(zip(pairs[: len(value)], pairs[len(value) :], strict=True))
    if isinstance(value, list):
        return tuple((function, function) for function in dict.fromkeys(_all_text(name, "functions", value)))
    raise ExtensionCallError(
        f"`functions` of extension `{name}` must be a list or a dict, not {type(value).__name__}"
    )


def _all_text(name: str, field: str, values: Sequence[Any]) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str):
            raise ExtensionCallError(
                f"`{field}` of extension `{name}` must hold strings, not {type(value).__name__}"
            )
    return tuple(str(value) for value in values)


def _includes(
    given: Mapping[str, Any], texts: Sequence[tuple[str, str]]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Toolchain directories stay paths; from any other only the headers that are used are taken along."""
    paths = _paths(given["name"], "extra_include_paths", given["extra_include_paths"] or [])
    kept = tuple(portable(path) for path in paths if is_toolchain(path))
    local = [os.path.abspath(path) for path in paths if not is_toolchain(path)]
    return kept, local_headers(texts, local, beside_source="sources" in given)


def _read(name: str, text_path: str) -> str:
    if not text_path.endswith(_SOURCE_SUFFIXES):
        raise ExtensionCallError(
            f"extension `{name}`: source files end in {', '.join(_SOURCE_SUFFIXES)}; got {text_path[:80]!r}"
        )
    try:
        with open(text_path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read(MAX_CALL_BYTES + 1)
    except (OSError, UnicodeEncodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no valid text"
        raise ExtensionCallError(
            f"extension `{name}`: cannot read {os.path.basename(text_path)[:80]!r}: {why}"
        ) from error
