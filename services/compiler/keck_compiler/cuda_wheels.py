"""A CUDA home made of links to what NVIDIA's wheels installed.

The wheels lay a toolkit out in their own way: libraries only under versioned names (``libcudart.so.13``, where
the linker wants ``libcudart.so``), ``lib`` instead of ``lib64``, cuDNN and others elsewhere, no driver stub.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

__all__ = ["assemble_cuda_home"]

_VERSIONED = re.compile(r"(lib[\w.-]*?\.so)\.\d[\d.]*")


def assemble_cuda_home(packages: Path, home: Path) -> Path | None:
    """Link everything under `packages` (``site-packages/nvidia``) into `home`; None if it holds no nvcc."""
    roots = sorted(path for path in packages.glob("*") if path.is_dir())
    toolkit = next((root for root in roots if (root / "bin" / "nvcc").is_file()), None)
    if toolkit is None:
        return None
    roots.remove(toolkit)
    for directory in ("include", "lib64/stubs"):
        (home / directory).mkdir(parents=True, exist_ok=True)
    # Whole directories: nvcc looks for its parts beside itself.
    for name in ("bin", "nvvm"):
        if (toolkit / name).is_dir():
            _link(home / name, toolkit / name)
    for root in (toolkit, *roots):
        for header in _entries(root / "include"):
            _link(home / "include" / header.name, header)
        for library in _entries(root / "lib"):
            _link(home / "lib64" / library.name, library)
            versioned = _VERSIONED.fullmatch(library.name)
            if versioned:
                _link(home / "lib64" / versioned[1], library)
    _make_driver_stub(home / "lib64" / "stubs" / "libcuda.so")
    return home


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _link(link: Path, target: Path) -> None:
    # The first one wins: the toolkit's own files before other wheels'.
    if not link.is_symlink() and not link.exists():
        link.symlink_to(target)


def _make_driver_stub(path: Path) -> None:
    """An empty library of the driver's name: extensions may leave symbols open until they are loaded."""
    argv = ["cc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", "/dev/null", "-o", str(path)]
    subprocess.run(argv, capture_output=True, timeout=20, check=False)
