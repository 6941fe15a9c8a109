"""The CPU as a device: arenas in sealed shared memory, single calls, the outside clock."""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
from pathlib import Path
from typing import Any, Literal

import torch

__all__ = ["CpuDevice"]

# A runner that truncated an arena would have the judge killed by SIGBUS at its next look.
_SEALS = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
_F_ADD_SEALS = 1033


class _SharedArena:
    """A memfd, mapped here and in one runner."""

    def __init__(self, size: int) -> None:
        self._size = max(size, mmap.PAGESIZE)
        self._fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, self._size)
        fcntl.fcntl(self._fd, _F_ADD_SEALS, _SEALS)
        self.bytes = torch.frombuffer(mmap.mmap(self._fd, self._size), dtype=torch.uint8)

    def share(self) -> tuple[dict[str, Any], list[int]]:
        """The descriptor, and the size to map."""
        return {"kind": "memfd", "size": self._size}, [self._fd]

    def close(self) -> None:
        """Drop the descriptor; the mapping goes with the last view of it."""
        os.close(self._fd)
        self.bytes = torch.empty(0, dtype=torch.uint8)


class CpuDevice:
    """C++ extensions and PyTorch code, judged without a GPU."""

    kind: Literal["cpu", "cuda"] = "cpu"
    bursts = False
    bandwidth: float | None = None
    cache_bytes: int = 0
    # A candidate that says DONE early wins what the judge needs to stop it: measured in tens of microseconds.
    edge_s = 50e-6

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        self._flush = torch.empty(8 << 20, dtype=torch.int32)

    def arena(self, size: int) -> _SharedArena:
        """Fresh shared memory."""
        return _SharedArena(size)

    def free_bytes(self) -> int:
        """What the machine says is available."""
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return 1 << 30

    def synchronize(self) -> None:
        """Nothing runs behind our back on a CPU."""

    def open_result(self, handle: bytes) -> torch.Tensor:
        """Private memory of another process cannot be opened here."""
        raise RuntimeError("results on the CPU are copied, never opened")

    def close_results(self) -> None:
        """Nothing is ever opened."""

    def flush_cache(self) -> None:
        """Write 32 MiB, more than the last-level cache slice one core gets to keep."""
        self._flush.fill_(1)

    def scrub(self) -> None:
        """Nothing to do: the kernel gives out pages of zeros."""

    def busy_s(self) -> float:
        """Not to be told on a CPU, which everybody shares."""
        self.flush_cache()
        return 0.0

    def facts(self) -> dict[str, str | float | None]:
        """Model name and core count."""
        return {
            "gpu": None,
            "gpu_uuid": None,
            "driver": None,
            "cpu": _model_name(),
            "cores": float(os.cpu_count() or 1),
        }

    def state(self) -> dict[str, str | float | None]:
        """Nothing: cores have clocks of their own."""
        return {}


def _model_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
