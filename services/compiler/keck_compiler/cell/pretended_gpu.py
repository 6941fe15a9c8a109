"""Answers to a candidate that asks, at import, whether there is a GPU and which: builders have none."""

from __future__ import annotations

from types import SimpleNamespace

import torch

__all__ = ["pretend_gpu"]


def pretend_gpu(arch: str) -> None:
    """Questions about the GPU are answered as an executor of this architecture would; work still fails.

    Without it ``if torch.cuda.is_available(): ext = load_inline(…)`` would take another way here than there.
    """
    major, _, minor = arch.partition(".")
    capability = (int(major), int(minor[:1] or 0))
    properties = SimpleNamespace(
        name="GPU", major=capability[0], minor=capability[1], total_memory=80 << 30,
        multi_processor_count=132, warp_size=32, max_threads_per_multi_processor=2048,
        shared_memory_per_block=48 << 10, shared_memory_per_block_optin=227 << 10,
    )  # fmt: skip
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": capability,
        "get_device_name": properties.name,
        "get_device_properties": properties,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
