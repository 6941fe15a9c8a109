"""Whether a process finds in the GPU's memory what another left."""

from __future__ import annotations

from pathlib import Path

import pytest

from keck.settings import load
from keck_executor import residue
from keck_executor.devices import open_device
from keck_executor.placement import place


async def test_the_kernel_clears_what_it_gives_to_a_process(tmp_path: Path) -> None:
    assert await residue.memory_between_processes(place(load({"KECK_DEVICE": "cpu"})), tmp_path) == "cleared"


@pytest.mark.gpu
async def test_what_a_process_left_is_found_or_is_gone(tmp_path: Path) -> None:
    found = await residue.memory_between_processes(place(load({"KECK_DEVICE": "cuda:0"})), tmp_path)
    assert found in (residue.CLEARED, residue.LEFT)


@pytest.mark.gpu
def test_within_one_process_it_is_found_until_it_is_scrubbed() -> None:
    """Or the answer above would say nothing."""
    from cuda.bindings import runtime

    device = open_device("cuda")

    def again() -> list[int]:
        for block in blocks:
            runtime.cudaFree(block)
        return residue.allocate(2 << 30)

    blocks = residue.allocate(2 << 30)
    residue.fill(blocks)
    blocks = again()
    assert residue.is_in(blocks)
    for block in blocks:
        runtime.cudaFree(block)
    device.scrub()
    blocks = residue.allocate(2 << 30)
    assert not residue.is_in(blocks)
