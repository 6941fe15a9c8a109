"""The compilers of this machine: where they are and which versions, found without importing torch."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keck_compiler.cuda_wheels import assemble_cuda_home

__all__ = ["Toolchain", "find_toolchain"]

_HEADERS_OF_TORCH = ("cublas_v2.h", "cublasLt.h", "cusparse.h", "cusolverDn.h")
"""What ATen/cuda/CUDAContext.h includes; toolkits installed in parts lack them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """What builds are made with."""

    versions: Mapping[str, str]
    """``torch``, ``cuda`` (torch's), ``nvcc``, ``gcc``, ``python``; part of every build's key."""
    cuda_home: Path | None
    """None where there is no nvcc of torch's CUDA version: CUDA code cannot be built here."""

    def environment(self) -> dict[str, str]:
        """Variables that make torch's builders use this toolchain."""
        # The interpreter's own directory first: ninja comes as a wheel.
        path = [str(Path(sys.executable).parent), *os.environ.get("PATH", "/usr/bin:/bin").split(os.pathsep)]
        env = {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        if self.cuda_home is not None:
            path.insert(1, str(self.cuda_home / "bin"))
            env["CUDA_HOME"] = str(self.cuda_home)
            # For -lcuda: the driver's library is not on a machine without a GPU, its stub is.
            env["LIBRARY_PATH"] = str(self.cuda_home / "lib64" / "stubs")
        return env | {"PATH": os.pathsep.join(path)}


def find_toolchain(directory: Path, *, environ: Mapping[str, str] | None = None) -> Toolchain:
    """Look for the compilers; a CUDA home made of wheels is assembled in `directory`.

    An installed toolkit is taken before the wheels, if it is whole and of torch's CUDA version: a machine may
    have several, and torch warns of a mix.
    """
    env = os.environ if environ is None else environ
    torch_version, cuda_version = _torch_versions()
    home, nvcc = _find_cuda(cuda_version, _installed_homes(env), directory) if cuda_version else (None, "")
    return Toolchain(
        versions={
            "torch": torch_version,
            "cuda": cuda_version,
            "nvcc": nvcc,
            "gcc": _first_line(["c++", "-dumpfullversion", "-dumpversion"]),
            "python": f"{sysconfig.get_python_version()}-{sysconfig.get_platform()}",
        },
        cuda_home=home,
    )


def _find_cuda(wanted: str, installed: Iterable[Path], directory: Path) -> tuple[Path | None, str]:
    """Home and nvcc version: a complete toolkit, else the wheels, else whatever has a working nvcc."""
    homes = {home: version for home in installed if (version := _nvcc_version(home))}
    fitting = {home: version for home, version in homes.items() if version.startswith(wanted + ".")}
    for home, version in fitting.items():
        if all((home / "include" / name).is_file() for name in _HEADERS_OF_TORCH):
            return home, version
    assembled = assemble_cuda_home(Path(sysconfig.get_path("purelib")) / "nvidia", directory / "cuda")
    if assembled is not None and (version := _nvcc_version(assembled)):
        return assembled, version
    return next(iter((fitting or homes).items()), (None, ""))


def _installed_homes(env: Mapping[str, str]) -> list[Path]:
    homes = [Path(env[name]) for name in ("CUDA_HOME", "CUDA_PATH") if env.get(name)]
    homes.append(Path("/usr/local/cuda"))
    on_path = shutil.which("nvcc", path=env.get("PATH"))
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    return homes


def _nvcc_version(home: Path) -> str:
    """``13.0.88``, or empty where this is no toolkit that works."""
    nvcc = home / "bin" / "nvcc"
    if not nvcc.is_file() or not (home / "include" / "cuda_runtime.h").is_file():
        return ""
    found = re.search(r"\bV(\d+\.\d+\.\d+)", _output([str(nvcc), "--version"]))
    return found[1] if found else ""


def _torch_versions() -> tuple[str, str]:
    """torch's version and the CUDA version it was built with (empty: none), from its version file."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "", ""
    text = Path(spec.origin).with_name("version.py").read_text()
    version = re.search(r"^__version__\s*=\s*'([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", text, re.MULTILINE)
    return (version[1] if version else ""), (cuda[1] if cuda else "")


def _first_line(argv: list[str]) -> str:
    return (_output(argv).splitlines() or [""])[0].strip()


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
