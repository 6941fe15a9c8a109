"""The variables a cell starts with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PLACES", "cell_environment", "import_paths"]

# The operator's own view of where programs and libraries lie; candidates have no say in it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "NCCL_NVLS_ENABLE")
_BELOW = {
    "HOME": ".",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "cache",
    "CUDA_CACHE_PATH": "cache/cuda",
    "TORCH_EXTENSIONS_DIR": "cache/torch_extensions",
    "TORCHINDUCTOR_CACHE_DIR": "cache/inductor",
    "TRITON_CACHE_DIR": "cache/triton",
}
_OURS = ("keck", "keck_cell", "keck_compiler", "keck_executor", "keck_sandbox")
PLACES = tuple(sorted(set(_BELOW.values()) - {"."}))
"""Directories below the work directory that the variables point to; made by the cell."""


def import_paths() -> list[str]:
    """Where a cell finds modules: the interpreter's, the operator's ``PYTHONPATH``, and wherever our packages lie.

    Not all of ``sys.path``: it begins with the directory that the service was started in, or its script's, and a cell
    that sees it may see somebody's home.
    """
    installed = [os.path.realpath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)]
    named = {os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    return [
        entry for entry in sys.path if entry and os.path.isdir(entry) and _is_needed(entry, installed, named)
    ]


def _is_needed(entry: str, installed: list[str], named: set[str]) -> bool:
    real = os.path.realpath(entry)
    if real in named or any(real.startswith(prefix) for prefix in installed):
        return True
    return any(os.path.isdir(os.path.join(real, package)) for package in _OURS)


def cell_environment(work: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a cell: nothing of the service's own but what is listed here."""
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **{name: str(work / below) for name, below in _BELOW.items()},
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(import_paths()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        # Otherwise torch.utils.cpp_extension wakes the driver at import.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        **extra,
    }
