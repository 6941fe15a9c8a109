"""What a candidate is built for."""

from __future__ import annotations

from typing import Any

import pytest

from keck.messages import Heartbeat, Options
from keck_cell import ExtensionCall, call_from_load_inline
from keck_compiler.target import Target, capability, choose_arch, choose_target, expects_cuda

_CPP = call_from_load_inline(("cpp_only", "int f();"), {})
_CUDA = call_from_load_inline(("with_kernel", "int f();", "__global__ void k();"), {})
_LINKED = call_from_load_inline(("host_only", "int f();"), {"with_cuda": True})


def _executor(worker: str, **changes: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "worker": worker, "role": "executor", "host": "h", "pid": 1, "version": "0", "started_at": 0.0, "at": 0.0,
        "slots": 1, "busy": 0, "target": "sm90", "arch": "9.0",
    }  # fmt: skip
    return Heartbeat(**(fields | changes))


_H100 = _executor("h100", busy=1)
_A100 = _executor("a100", target="sm80", arch="8.0")
_CPU = _executor("cpu", target="cpu", arch="")


def test_the_arch_is_the_options_then_the_settings_then_the_least_loaded_executors() -> None:
    assert choose_arch(Options(arch="8.6"), "7.5", [_H100]) == "8.6"
    assert choose_arch(Options(), "7.5", [_H100]) == "7.5"
    assert choose_arch(Options(), "", [_H100, _A100, _CPU]) == "8.0"
    assert choose_arch(Options(), "", [_H100, _executor("sick", state="quarantined", arch="12.0")]) == "9.0"
    assert choose_arch(Options(), "", [_CPU]) == "8.0+PTX"


def test_the_arch_is_that_of_the_model_that_is_asked_for() -> None:
    named = [_executor("b", target="sm100", arch="10.0", facts={"gpu": "NVIDIA B200"}), _A100]
    assert choose_arch(Options(gpu="B200"), "", named) == "10.0"
    assert choose_arch(Options(gpu="H200"), "", named) == "8.0+PTX"
    assert choose_arch(Options(gpu="B200", arch="9.0"), "", named) == "9.0"


def test_a_gpu_and_the_cpu_are_not_asked_for_at_once() -> None:
    said = choose_target(Options(device="cpu", gpu="H200"), "", [], [], arch="9.0")
    assert isinstance(said, str)
    assert "ask for one of them" in said


@pytest.mark.parametrize(
    ("options", "source", "calls", "executors", "arch", "expected"),
    [
        (Options(), "", [], [], "8.0+PTX", Target(name="cpu", arch="")),
        (Options(), "", [], [_CPU], "8.0+PTX", Target(name="cpu", arch="")),
        (Options(), "", [], [_H100], "9.0", Target(name="cuda-any", arch="")),
        (Options(), "", [_CPP], [], "8.0+PTX", Target(name="cpu", arch="")),
        (Options(device="cpu"), "", [_CPP], [_H100], "9.0", Target(name="cpu", arch="")),
        (Options(device="cuda"), "", [_CPP], [], "9.0", Target(name="cuda-any", arch="")),
        (Options(), "", [_CUDA], [], "8.0+PTX", Target(name="cuda-any", arch="8.0+PTX")),
        (Options(), "", [_CPP, _CUDA], [_H100], "9.0", Target(name="sm90", arch="9.0")),
        (Options(), "", [_CUDA], [], "9.0a", Target(name="sm90", arch="9.0a")),
        (Options(), "", [_CUDA], [], "12.0", Target(name="sm120", arch="12.0")),
        (Options(), "", [_CUDA], [], "8.0;9.0", Target(name="cuda-any", arch="8.0;9.0")),
        (Options(), "", [_CUDA], [], "Hopper", Target(name="cuda-any", arch="Hopper")),
        (Options(), "", [_LINKED], [], "9.0", Target(name="cuda-any", arch="")),
        (Options(), "import triton\n", [], [], "9.0", Target(name="cuda-any", arch="")),
        (Options(), "x = 1\n    from triton import jit\n", [], [], "9.0", Target(name="cuda-any", arch="")),
        (Options(), "# import triton\n", [], [], "9.0", Target(name="cpu", arch="")),
        (Options(gpu="H200"), "", [], [_CPU], "9.0", Target(name="gpu-h200", arch="")),
        (Options(gpu="h200"), "", [_CUDA], [_H100], "9.0", Target(name="gpu-h200", arch="9.0")),
    ],
)
def test_the_target_follows_from_device_code_and_fleet(  # noqa: PLR0917 - a table's columns
    options: Options,
    source: str,
    calls: list[ExtensionCall],
    executors: list[Heartbeat],
    arch: str,
    expected: Target,
) -> None:
    assert choose_target(options, source, calls, executors, arch=arch) == expected


def test_cuda_code_asked_for_on_the_cpu_is_a_sentence() -> None:
    problem = choose_target(Options(device="cpu"), "", [_CPP, _CUDA], [], arch="9.0")
    assert isinstance(problem, str)
    assert "device=cpu" in problem
    assert "`with_kernel`" in problem
    assert "cpp_only" not in problem


def test_a_gpu_is_pretended_only_to_those_who_may_run_on_one() -> None:
    assert expects_cuda("cuda_sources=", "auto")
    assert expects_cuda("", "cuda")
    assert not expects_cuda("cuda_sources=", "cpu")
    assert not expects_cuda("cpp_sources=", "auto")
    assert [capability(arch) for arch in ("9.0a", "8.0+PTX", "7.5;9.0", "Hopper")] == [
        "9.0",
        "8.0",
        "7.5",
        "8.0",
    ]
