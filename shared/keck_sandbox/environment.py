"""The variables a cell starts with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cell_environment", "cell_variables"]

# The operator's own view of where programs and libraries lie; candidates have no say in it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "NCCL_NVLS_ENABLE")
_BELOW = {
    "HOME": "",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "cache",
    "CUDA_CACHE_PATH": "cache/cuda",
    "TORCH_EXTENSIONS_DIR": "cache/torch_extensions",
    "TORCHINDUCTOR_CACHE_DIR": "cache/inductor",
    "TRITON_CACHE_DIR": "cache/triton",
}


def cell_variables(directory: Path) -> dict[str, str]:
    """What points into the cell's own directory; the places are made."""
    variables = {}
    for name, below in _BELOW.items():
        place = directory / below
        place.mkdir(parents=True, exist_ok=True)
        variables[name] = str(place)
    return variables


def cell_environment(directory: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a cell: nothing of the service's own but what is listed here."""
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **cell_variables(directory),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry and os.path.isdir(entry)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        # Otherwise torch.utils.cpp_extension wakes the driver at import.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        **extra,
    }
