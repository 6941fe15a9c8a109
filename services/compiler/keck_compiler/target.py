"""Which executors a candidate is built for: device, architecture, and the subject its build goes to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from keck.messages import Heartbeat, Options
from keck.subjects import CUDA_ANY
from keck.targets import CPU, gpu_model, is_cuda, model_target
from keck_cell import ExtensionCall

__all__ = ["DEFAULT_ARCH", "Target", "capability", "choose_arch", "choose_target", "expects_cuda"]

DEFAULT_ARCH = "8.0+PTX"
"""Runs on every GPU since Ampere, compiled once more by the driver where it is newer."""
# Not `\s*`: each of many blank lines would begin another search to the end of them.
_TRITON = re.compile(r"^[^\S\n]*(?:import|from)[^\S\n]+triton\b", re.MULTILINE)
_PLAIN_ARCH = re.compile(r"(\d+)\.(\d)[af]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a build can run."""

    name: str
    """``cpu``, ``sm90``, ``gpu-h200``, ``cuda-any``: the token in the subject of ``compile.done``."""
    arch: str
    """``TORCH_CUDA_ARCH_LIST`` of the build; empty where nothing is compiled for a GPU."""


def expects_cuda(source: str, device: Literal["auto", "cuda", "cpu"]) -> bool:
    """Whether the candidate should be told, while it is recorded, that there is a GPU."""
    if device == "auto":
        return "cuda" in source.lower() or _TRITON.search(source) is not None
    return device == "cuda"


def capability(arch: str) -> str:
    """The first numeric architecture in a list (``9.0``), as a GPU would name itself."""
    found = re.search(r"\d+\.\d", arch)
    return found[0] if found else "8.0"


def choose_arch(options: Options, configured: str, executors: Sequence[Heartbeat]) -> str:
    """Architectures to build for: as asked, as configured, or the least loaded live executor's."""
    if options.arch.strip():
        return options.arch.strip()
    if configured.strip():
        return configured.strip()
    gpus = [worker for worker in _cuda_executors(executors, options.gpu) if worker.arch]
    if not gpus:
        return DEFAULT_ARCH
    return min(gpus, key=lambda worker: (worker.busy / max(1, worker.slots), worker.busy, worker.worker)).arch


def choose_target(
    options: Options,
    source: str,
    calls: Sequence[ExtensionCall],
    executors: Sequence[Heartbeat],
    *,
    arch: str,
) -> Target | str:
    """The target, or one sentence on why there is none for this candidate."""
    needs_cuda = any(call.uses_cuda for call in calls)
    if options.device == "cpu":
        return _no_cpu(options, calls) or Target(name=CPU, arch="")
    built = arch if any(call.has_device_code for call in calls) else ""
    if options.gpu:
        return Target(name=model_target(gpu_model(options.gpu)), arch=built)
    if built:
        return Target(name=_subject_token(arch), arch=arch)
    wants_cuda = options.device == "cuda" or needs_cuda or _TRITON.search(source) is not None
    if wants_cuda or _cuda_executors(executors):
        return Target(name=CUDA_ANY, arch="")
    return Target(name=CPU, arch="")


def _no_cpu(options: Options, calls: Sequence[ExtensionCall]) -> str:
    """Why the CPU that was asked for will not do; empty where it will."""
    if names := ", ".join(f"`{call.name}`" for call in calls if call.uses_cuda):
        return f"device=cpu was asked for, but extension {names} has CUDA code: use device=cuda or auto"
    if options.gpu:
        return f"device=cpu was asked for, and a GPU of model {options.gpu}: ask for one of them"
    return ""


def _subject_token(arch: str) -> str:
    """One plain architecture goes to executors that have it; PTX or several to any that takes it."""
    plain = _PLAIN_ARCH.fullmatch(arch)
    return f"sm{plain[1]}{plain[2]}" if plain else CUDA_ANY


def _cuda_executors(executors: Sequence[Heartbeat], model: str = "") -> list[Heartbeat]:
    """Those that take work; of one model if given."""
    return [
        worker
        for worker in executors
        if worker.state == "ready"
        and is_cuda(worker)
        and (not model or gpu_model(str(worker.facts.get("gpu") or "")) == gpu_model(model))
    ]
