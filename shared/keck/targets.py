"""What a build can be meant for, and which executors take it: one token of a subject each.

``cpu``; ``sm90`` and the like, an architecture; ``gpu-h200`` and the like, one model of GPU; ``cuda-any``.
"""

from __future__ import annotations

import re

from keck.messages import Heartbeat
from keck.subjects import CUDA_ANY

__all__ = ["CPU", "gpu_model", "is_cuda", "model_target", "targets_of"]

CPU = "cpu"
_WORD = re.compile(r"[a-z0-9]+")


def gpu_model(name: str) -> str:
    """The model in a GPU's name, or in what somebody asks for: ``NVIDIA H100 80GB HBM3`` and ``H100`` are ``h100``.

    The first word with a digit, since what comes before names makers and families; empty where there is none.
    """
    words: list[str] = _WORD.findall(name.lower())
    return next((word for word in words if any(letter.isdigit() for letter in word)), "")


def model_target(model: str) -> str:
    """The target of one model of GPU."""
    return f"gpu-{model}"


def is_cuda(worker: Heartbeat) -> bool:
    """Whether an executor has a GPU."""
    return worker.target.startswith("sm")


def targets_of(target: str, gpu: str | float | None) -> list[str]:
    """The targets that an executor serves, the most particular first.

    Args:
        target: its own: ``cpu``, or its architecture.
        gpu: the name of its GPU, if it has one.
    """
    if target == CPU:
        return [CPU]
    model = gpu_model(str(gpu or ""))
    return [*([model_target(model)] if model else []), target, CUDA_ANY]
