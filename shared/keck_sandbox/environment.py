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
PLACES = tuple(sorted(set(_BELOW.values()) - {"."}))
"""Directories below the work directory that the variables point to; made by the cell."""


def import_paths() -> list[str]:
    """Where this interpreter finds modules, existing directories only."""
    return [entry for entry in sys.path if entry and os.path.isdir(entry)]


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
