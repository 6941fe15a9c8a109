"""Make torch's builders see the lean headers, and link what was cut out of them."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keck_compiler.lean.commands import read_ninja
from keck_compiler.lean.demand import Doubt, demand_of
from keck_compiler.lean.index import Index
from keck_compiler.lean.prelude import write_prelude
from keck_compiler.lean.prepare import BODIES, FLAGS, HEADERS, INDEX, SYMBOLS, Flags

__all__ = ["DOUBT", "InDoubt", "read_lean", "use_lean_headers"]

DOUBT = "doubt.txt"
_PRELUDE = "prelude"
_NEEDED = "torch-inline.o"
"""What an object of this build needs of the bodies that the lean headers lack."""
_CUDA = (".cu", ".cuh")
_NO_EXECUTABLE_STACK = b'.section .note.GNU-stack,"",@progbits\n'
"""All of an empty object: without it the linker would make the module's stack executable."""


class InDoubt(Exception):
    """The lean headers might not give what torch's own do."""


@functools.cache
def read_lean(lean: Path) -> tuple[Index, Flags, frozenset[str]]:
    """The files of a lean toolchain, read once in a process: a zygote reads them for all its builds."""
    return (
        Index.from_json((lean / INDEX).read_bytes()),
        Flags.from_json((lean / FLAGS).read_bytes()),
        frozenset(json.loads((lean / SYMBOLS).read_bytes())),
    )


def use_lean_headers(builders: Any, lean: Path, *, here: Path, headers: Sequence[str]) -> None:
    """From now on ``load_inline`` and ``load`` of `builders` (torch's module) build with the lean headers.

    Args:
        builders: ``torch.utils.cpp_extension``.
        lean: what :mod:`keck_compiler.lean.prepare` left.
        here: where the build writes.
        headers: texts of the candidate's own headers.
    """
    index, flags, symbols = read_lean(lean)
    compile_ = builders._jit_compile
    signature = inspect.signature(compile_)
    run_ninja = builders._run_ninja_build

    def jit_compile(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        sources = (
            [bound.arguments["sources"]]
            if isinstance(bound.arguments["sources"], str)
            else bound.arguments["sources"]
        )
        texts = {name: Path(name).read_text(encoding="utf-8", errors="surrogateescape") for name in sources}
        demand = demand_of(
            index,
            host=[text for name, text in texts.items() if not name.endswith(_CUDA)],
            cuda=[text for name, text in texts.items() if name.endswith(_CUDA)],
            headers=headers,
            flags=[
                flag
                for name in ("extra_cflags", "extra_cuda_cflags")
                for flag in bound.arguments.get(name) or ()
            ],
        )
        if isinstance(demand, Doubt):
            raise InDoubt(demand.reason)
        write_prelude(here / _PRELUDE, demand, include=Path(flags.include))
        own = [str(here / _PRELUDE), str(lean / HEADERS)]
        bound.arguments["extra_include_paths"] = own + list(bound.arguments["extra_include_paths"] or [])
        bound.arguments["extra_ldflags"] = [*(bound.arguments["extra_ldflags"] or []), str(here / _NEEDED)]
        return compile_(*bound.args, **bound.kwargs)

    builders._jit_compile = jit_compile
    builders._run_ninja_build = _linking_bodies(run_ninja, lean / BODIES, symbols, here)


def _linking_bodies(
    run_ninja: Callable[..., Any], bodies: Path, symbols: frozenset[str], here: Path
) -> Callable[..., Any]:
    """The same, with the objects made first and what they need of `bodies` beside them."""

    def run(build_directory: str, verbose: bool, error_prefix: str) -> Any:
        objects = read_ninja(Path(build_directory, "build.ninja").read_text()).objects
        jobs = ["-j", jobs] if (jobs := os.environ.get("MAX_JOBS", "")).isdecimal() else []
        sys.stdout.flush()
        try:
            subprocess.run(["ninja", "-v", *jobs, *objects], cwd=build_directory, check=True)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(error_prefix) from error
        _link_needed([Path(build_directory, name) for name in objects], bodies, symbols, here / _NEEDED)
        return run_ninja(build_directory, verbose, error_prefix)

    return run


def _link_needed(objects: Sequence[Path], bodies: Path, symbols: frozenset[str], needed: Path) -> None:
    done = subprocess.run(
        ["nm", "--undefined-only", "-P", *map(str, objects)], capture_output=True, text=True, check=True
    )
    wanted = sorted({parts[0] for line in done.stdout.splitlines() if (parts := line.split())} & symbols)
    # What one of these functions needs of the others comes along.
    roots = [argument for symbol in wanted for argument in ("-u", symbol)]
    if roots:
        linked = ["ld", "-r", "--gc-sections", *roots, str(bodies), "-o", str(needed)]
        subprocess.run(linked, check=True)
    else:
        subprocess.run(["as", "-o", str(needed), "-"], input=_NO_EXECUTABLE_STACK, check=True)
