"""Whether one process can read what another that is gone left in the GPU's memory, found out by trying.

The driver is known to clear memory between processes, and not documented to. So at its start the executor has one cell
fill memory with a pattern and end, and another look for it; where it is found, the judge overwrites all free memory
before every check.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from keck.logs import logger
from keck_executor.cuda_calls import cuda_ok
from keck_executor.placement import Placement
from keck_sandbox import Policy, spawn

__all__ = ["CLEARED", "LEFT", "UNKNOWN", "memory_between_processes"]

CLEARED: Final = "cleared"
LEFT: Final = "left"
UNKNOWN: Final = "unknown"

_PATTERN: Final = 0x5A
_CHUNK: Final = 256 << 20
_LOOKED_AT: Final = 2 << 30
"""Bytes that are searched: allocators give first what was freed last."""
_SHARE: Final = 2
"""The part of the free memory that is filled, as a divisor: others may be on this GPU while the executor starts."""
_WAIT_S: Final = 60.0


async def memory_between_processes(placement: Placement, directory: Path) -> str:
    """``cleared``, ``left``, or ``unknown`` where it cannot be told; for the CPU ``cleared``, as kernels do.

    Args:
        placement: the device.
        directory: for the two cells' directories.
    """
    if placement.kind == "cpu":
        return CLEARED
    said = [await _in_a_cell(placement, directory, mode) for mode in ("fill", "look")]
    if said[0] != ["filled"] or said[1] not in (["found 0"], ["found 1"]):
        logger().warning("residue_unknown", said=said)
        return UNKNOWN
    return LEFT if said[1] == ["found 1"] else CLEARED


async def _in_a_cell(placement: Placement, directory: Path, mode: str) -> list[str]:
    policy = Policy(
        name="residue",
        directory=Path(tempfile.mkdtemp(prefix="residue-", dir=directory)),
        devices=placement.devices,
        env=placement.env,
        open_files=4096,
    )
    process = await spawn(policy, [sys.executable, "-P", "-m", "keck_executor.residue", mode])
    try:
        await process.wait(_WAIT_S)
    finally:
        await process.kill()
    return process.output().split("\n")[:-1]


# --- in the cell, which imports no torch: that would take ten times as long as all the rest


def main(mode: str) -> None:
    """Fill free memory, or look for what the filler left in memory that was never written here."""
    free, _ = cuda_ok(_runtime().cudaMemGetInfo())
    blocks = allocate(free // _SHARE)
    if mode == "fill":
        fill(blocks)
        print("filled")
    else:
        print(f"found {int(is_in(blocks[: _LOOKED_AT // _CHUNK]))}")


def allocate(size: int) -> list[int]:
    """Device pointers of blocks that are about `size` bytes together."""
    return [int(cuda_ok(_runtime().cudaMalloc(_CHUNK))) for _ in range(max(1, size // _CHUNK))]


def fill(blocks: Sequence[int]) -> None:
    """Write the pattern everywhere."""
    for block in blocks:
        cuda_ok((*_runtime().cudaMemset(block, _PATTERN, _CHUNK), None))
    cuda_ok((*_runtime().cudaDeviceSynchronize(), None))


def is_in(blocks: Sequence[int]) -> bool:
    """Whether the pattern is found anywhere."""
    host = bytearray(_CHUNK)
    kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
    for block in blocks:
        cuda_ok((*_runtime().cudaMemcpy(host, block, _CHUNK, kind), None))
        if bytes([_PATTERN] * 64) in host:
            return True
    return False


def _runtime() -> Any:
    from cuda.bindings import runtime  # noqa: PLC0415 - not in the executor, which has nothing to do with CUDA

    return runtime


if __name__ == "__main__":
    main(sys.argv[1])
