"""Which devices this machine can judge on, found without torch and without touching a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["devices_here", "gpu_names"]

_PROC = Path("/proc/driver/nvidia/gpus")
_NVIDIA_SMI_TIMEOUT_S = 10.0


def devices_here(environ: Mapping[str, str] | None = None) -> list[str]:
    """``["cuda:0", …]``, one for each GPU that a process started now would see, or ``["cpu"]``."""
    env = os.environ if environ is None else environ
    count = len(gpu_names())
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA numbers what is visible from 0, and stops at the first entry that is no device.
        entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
        valid = entries[: entries.index("-1")] if "-1" in entries else entries
        count = min(count, len(valid))
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def gpu_names() -> Sequence[str]:
    """Names of the NVIDIA GPUs that the driver shows to this process."""
    found = _by_nvml()
    if found is None:
        found = _by_nvidia_smi()
    if found is None:
        found = _by_proc()
    return found


def _by_nvml() -> list[str] | None:
    try:
        import pynvml  # noqa: PLC0415 - comes with the executor's extra
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _by_nvidia_smi() -> list[str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()


def _by_proc() -> list[str]:
    return [_model(gpu / "information") for gpu in sorted(_PROC.glob("*"))]


def _model(information: Path) -> str:
    try:
        lines = information.read_text().splitlines()
    except OSError:
        return "GPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "GPU")
