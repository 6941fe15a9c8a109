"""Whether one process can read what another that is gone left in the GPU's memory, found out by trying.

The driver is known to clear memory between processes, and not documented to. So at its start the executor has one cell
fill memory with a pattern and end, and another look for it; where it is found, the judge overwrites all free memory
before every check.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from keck.logs import logger
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


# --- in the cell


def main(mode: str) -> None:
    """Fill free memory, or look for what the filler left in memory that was never written here."""
    from cuda.bindings import runtime  # noqa: PLC0415 - not in the executor, which has nothing to do with CUDA

    from keck_executor.runner.memory import cuda_ok  # noqa: PLC0415

    free, _ = cuda_ok(runtime.cudaMemGetInfo())
    wanted = free // _SHARE
    blocks = [int(cuda_ok(runtime.cudaMalloc(_CHUNK))) for _ in range(max(1, wanted // _CHUNK))]
    if mode == "fill":
        for block in blocks:
            cuda_ok((*runtime.cudaMemset(block, _PATTERN, _CHUNK), None))
        cuda_ok((*runtime.cudaDeviceSynchronize(), None))
        print("filled")
        return
    host = bytearray(_CHUNK)
    found = False
    for block in blocks[: _LOOKED_AT // _CHUNK]:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        cuda_ok((*runtime.cudaMemcpy(host, block, _CHUNK, kind), None))
        found = found or bytes([_PATTERN] * 64) in host
    print(f"found {int(found)}")


if __name__ == "__main__":
    main(sys.argv[1])
