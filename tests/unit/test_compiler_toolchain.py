"""Finding compilers, on machines that have them in other places than this one."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from keck_cell.signature import SIGNATURE_OF_LOAD, SIGNATURE_OF_LOAD_INLINE
from keck_compiler.cuda_wheels import assemble_cuda_home
from keck_compiler.toolchain import Toolchain, find_toolchain


def _wheels(packages: Path) -> Path:
    """What NVIDIA's wheels leave in site-packages, in small."""
    files = {
        "cu13/bin/nvcc": "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n",
        "cu13/nvvm/bin/cicc": "", "cu13/include/cuda_runtime.h": "// runtime", "cu13/include/cccl/cub.h": "",
        "cu13/lib/libcudart.so.13": "", "cu13/lib/libcublas.so.13.1.0": "", "cu13/lib/libcudadevrt.a": "",
        "cudnn/include/cudnn.h": "", "cudnn/include/cuda_runtime.h": "// not this one", "cudnn/lib/libcudnn.so.9": "",
    }  # fmt: skip
    for name, text in files.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (packages / "cu13/bin/nvcc").chmod(0o755)
    return packages


def test_wheels_become_a_cuda_home_that_the_linker_understands(tmp_path: Path) -> None:
    home = assemble_cuda_home(_wheels(tmp_path / "nvidia"), tmp_path / "home")
    assert home == tmp_path / "home"
    libraries = {path.name for path in (home / "lib64").iterdir()}
    assert {"libcudart.so", "libcudart.so.13", "libcublas.so", "libcudadevrt.a", "libcudnn.so"} <= libraries
    assert (home / "include" / "cuda_runtime.h").read_text() == "// runtime"
    assert (home / "include" / "cudnn.h").is_file()
    assert (home / "nvvm" / "bin" / "cicc").is_file()
    # -lcuda links where there is no driver.
    assert (home / "lib64" / "stubs" / "libcuda.so").is_file()
    # Once more over the same directory: a service that starts again.
    assert assemble_cuda_home(tmp_path / "nvidia", home) == home


def test_without_nvcc_among_the_wheels_there_is_no_home(tmp_path: Path) -> None:
    packages = _wheels(tmp_path / "nvidia")
    (packages / "cu13/bin/nvcc").unlink()
    assert assemble_cuda_home(packages, tmp_path / "home") is None
    assert assemble_cuda_home(tmp_path / "nowhere", tmp_path / "home") is None


def test_a_toolkit_without_the_headers_that_torch_includes_is_passed_over(tmp_path: Path) -> None:
    packages = _wheels(tmp_path / "nvidia")
    partial = packages / "cu13"
    found = find_toolchain(tmp_path / "here", environ={"CUDA_HOME": str(partial), "PATH": ""})
    assert found.cuda_home != partial


def test_a_whole_toolkit_of_torchs_version_is_taken(tmp_path: Path) -> None:
    whole = _wheels(tmp_path / "nvidia") / "cu13"
    for name in ("cublas_v2.h", "cublasLt.h", "cusparse.h", "cusolverDn.h"):
        (whole / "include" / name).touch()
    found = find_toolchain(tmp_path / "here", environ={"CUDA_HOME": str(whole), "PATH": ""})
    assert found.cuda_home == whole
    assert found.versions["nvcc"] == "13.0.88"
    assert found.versions["torch"].startswith("2.")
    assert found.versions["gcc"]


def test_the_environment_of_a_build_finds_ninja_and_nvcc_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    env = Toolchain(versions={}, cuda_home=Path("/c")).environment()
    assert env["PATH"] == f"{Path(sys.executable).parent}:/c/bin:/usr/bin"
    assert (env["CUDA_HOME"], env["LIBRARY_PATH"]) == ("/c", "/c/lib64/stubs")
    assert "CUDA_HOME" not in Toolchain(versions={}, cuda_home=None).environment()


@pytest.mark.parametrize(
    ("function", "ours"), [("load_inline", SIGNATURE_OF_LOAD_INLINE), ("load", SIGNATURE_OF_LOAD)]
)
def test_calls_are_bound_by_the_installed_torchs_signatures(function: str, ours: inspect.Signature) -> None:
    # Read and not imported: importing torch takes seconds.
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "utils" / "cpp_extension.py").read_text())
    (theirs,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function]
    assert [argument.arg for argument in theirs.args.args] == list(ours.parameters)
    defaults = [parameter.default for parameter in ours.parameters.values()]
    given = [ast.literal_eval(default) for default in theirs.args.defaults]
    assert [value for value in defaults if value is not inspect.Parameter.empty] == given
