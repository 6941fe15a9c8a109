"""Putting something else in the place of torch's builders."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keck_cell.extension_call import ExtensionCall, ExtensionCallError
from keck_cell.signature import call_from_load, call_from_load_inline

__all__ = ["replace_builders"]


def replace_builders(handler: Callable[[ExtensionCall], object], *, cpp_extension: Any = None) -> None:
    """From now on ``load_inline`` and ``load`` return what `handler` makes of the call.

    Done before the candidate is imported, so that its ``from torch.utils.cpp_extension import load_inline``
    binds the replacement. `cpp_extension` is torch's module; it is imported if not given.
    """
    # By name: this package must import where torch is not installed.
    module: Any = cpp_extension or importlib.import_module("torch.utils.cpp_extension")
    module.load_inline = _replacement(module.load_inline, call_from_load_inline, handler)
    module.load = _replacement(module.load, call_from_load, handler)
    # Reached only by code that goes round the two above; it must not run a compiler unseen.
    module._jit_compile = _refuse


def _replacement(
    original: Callable[..., Any],
    read: Callable[[Sequence[Any], Mapping[str, Any]], ExtensionCall],
    handler: Callable[[ExtensionCall], object],
) -> Callable[..., object]:
    @functools.wraps(original)
    def build(*args: Any, **kwargs: Any) -> object:
        return handler(read(args, kwargs))

    # functools.wraps leaves a way back to the builder that was replaced.
    del build.__dict__["__wrapped__"]
    return build


def _refuse(*args: Any, **kwargs: Any) -> object:
    raise ExtensionCallError("extensions are built through load_inline and load only")
