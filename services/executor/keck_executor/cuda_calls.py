"""Calling cuda.bindings, without torch."""

from __future__ import annotations

from typing import Any

__all__ = ["cuda_ok"]


def cuda_ok(result: tuple[Any, ...]) -> Any:
    """The value of a cuda.bindings call.

    Raises:
        RuntimeError: the call failed.
    """
    if int(result[0]) != 0:
        raise RuntimeError(f"CUDA call failed: {result[0]!r}")
    return result[1] if len(result) == 2 else result[1:]
