"""Real builds in real cells. Torch's headers cost half a minute each, so most go without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path

import pytest

from keck.testing import async_wait_until
from keck_cell import ExtensionCall, call_from_load, call_from_load_inline
from keck_compiler.builder import Builder
from keck_compiler.built import BuildTimeout
from keck_compiler.cuda_wheels import assemble_cuda_home
from keck_compiler.toolchain import Toolchain, find_toolchain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_EXAMPLES = Path(__file__).parents[2] / "examples"
_PYBIND = """
#include <pybind11/pybind11.h>
#include "answer.h"
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("answer", [] { return ANSWER; }); }
"""


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(toolchain=find_toolchain(tmp_path), max_jobs=1, memory_bytes=8 << 30)


def _call_of(example: str) -> ExtensionCall:
    """The extension of an example, recorded in this process."""
    calls: list[ExtensionCall] = []
    source = (_EXAMPLES / example / "candidate.py").read_text()
    source = (
        source.split("class ModelNew")[0].replace("from torch import nn", "").replace("import torch\n", "")
    )
    source = source.replace("from torch.utils.cpp_extension import load_inline", "")

    def load_inline(**arguments: object) -> None:
        calls.append(call_from_load_inline((), arguments))

    exec(source, {"load_inline": load_inline})  # noqa: S102 - our own example
    return calls[0]


def _run_with(module: bytes, name: str, code: str, directory: Path) -> str:
    """Import a built module in a process of its own and run code with it."""
    path = directory / f"{name}.so"
    path.write_bytes(module)
    program = (
        "import importlib.util, torch\n"
        f"spec = importlib.util.spec_from_file_location({name!r}, {str(path)!r})\n"
        "m = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(m)\n" + code
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_a_cpp_extension_is_built_and_runs(builder: Builder, tmp_path: Path) -> None:
    call = _call_of("cpp_relu")
    built = await builder.build(call, arch="", timeout_s=500)
    assert built.outcome.message == ""
    assert built.outcome.cpu_s > 1
    assert built.outcome.peak_memory_bytes > 100 << 20
    code = "print(m.relu_forward(torch.tensor([-1.0, 2.0])).tolist())"
    assert _run_with(built.module, call.name, code, tmp_path) == "[0.0, 2.0]"


async def test_load_builds_local_files_that_bind_themselves(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "own.cpp").write_text(_PYBIND)
    (tmp_path / "answer.h").write_text("#define ANSWER 42\n")
    call = call_from_load(("own", [str(tmp_path / "own.cpp")]), {})
    built = await builder.build(call, arch="", timeout_s=500)
    assert built.outcome.message == ""
    assert _run_with(built.module, "own", "print(m.answer())", tmp_path) == "42"


async def test_a_compile_error_comes_with_file_line_and_log(builder: Builder, tmp_path: Path) -> None:
    call = call_from_load_inline(("broken", "int f() {\n  return nothing;\n}"), {"no_implicit_headers": True})
    built = await builder.build(call, arch="", timeout_s=100)
    assert built.module == b""
    (error,) = [item for item in built.outcome.diagnostics if item.severity == "error"]
    assert (error.file, error.line) == ("main.cpp", 2)
    assert "nothing" in error.text
    assert built.outcome.message.startswith("extension `broken`: main.cpp:2: ")
    assert "return nothing;" in built.outcome.log
    # The same text everywhere: no path of this machine, no colours.
    assert "/tmp" not in built.outcome.log
    assert sysconfig.get_path("purelib") not in built.outcome.log
    assert "\x1b" not in built.outcome.log


async def test_a_link_error_names_what_is_missing(builder: Builder) -> None:
    call = call_from_load_inline(
        ("unlinked", "int f() { return 1; }"),
        {"no_implicit_headers": True, "extra_ldflags": ["-lnosuchthing"]},
    )
    built = await builder.build(call, arch="", timeout_s=100)
    assert built.module == b""
    assert "cannot find -lnosuchthing" in built.outcome.message


async def test_a_build_that_takes_too_long_is_ended_with_its_whole_tree(builder: Builder) -> None:
    name = f"endless_{uuid.uuid4().hex}"
    endless = (
        "template<unsigned long A, int N> struct T { static constexpr unsigned long v = T<A * 2, N - 1>::v + "
        "T<A * 2 + 1, N - 1>::v; };\n"
        "template<unsigned long A> struct T<A, 0> { static constexpr unsigned long v = A; };\n"
        "unsigned long f() { return T<1, 40>::v; }"
    )
    call = call_from_load_inline((name, endless), {"no_implicit_headers": True})
    task = asyncio.create_task(builder.build(call, arch="", timeout_s=40))
    # Not the shell or the driver only: the compiler proper, four levels down.
    await async_wait_until(lambda: any("cc1plus" in line for line in _processes(name)), timeout_s=39)
    with pytest.raises(BuildTimeout, match="longer than 40 s"):
        await task
    await async_wait_until(lambda: not _processes(name), timeout_s=5)


async def test_a_cancelled_build_leaves_nothing_behind(builder: Builder) -> None:
    name = f"cancelled_{uuid.uuid4().hex}"
    call = call_from_load_inline((name, "#include <torch/extension.h>"), {"no_implicit_headers": True})
    task = asyncio.create_task(builder.build(call, arch="", timeout_s=100))
    await async_wait_until(lambda: any("cc1plus" in line for line in _processes(name)), timeout_s=60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await async_wait_until(lambda: not _processes(name), timeout_s=5)


@pytest.mark.timeout(900)
async def test_a_cuda_extension_is_compiled_and_linked_with_the_wheels_alone(tmp_path: Path) -> None:
    found = find_toolchain(tmp_path)
    home = assemble_cuda_home(Path(sysconfig.get_path("purelib")) / "nvidia", tmp_path / "wheels")
    assert home is not None
    toolchain = Toolchain(versions=found.versions, cuda_home=home)
    builder = Builder(toolchain=toolchain, max_jobs=1, memory_bytes=8 << 30)
    call = _call_of("cuda_relu")
    built = await builder.build(call, arch="9.0", timeout_s=800)
    assert built.outcome.message == ""
    # Loading resolves the CUDA libraries; the kernel itself needs a GPU.
    code = "print(m.relu_cuda.__name__)"
    assert _run_with(built.module, call.name, code, tmp_path) == "relu_cuda"
    assert b"sm_90" in built.module


def _processes(marker: str) -> list[str]:
    """Command lines of the processes that mention the marker, this one's own excluded."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found
