"""The device nodes of one GPU: all that a cell for it may open."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["gpu_nodes"]

_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
_INFORMATION = re.compile(r"^(GPU UUID|Device Minor):\s*(\S+)", re.MULTILINE)


def gpu_nodes(
    visible: str, *, dev: Path = Path("/dev"), proc: Path = Path("/proc/driver/nvidia/gpus")
) -> tuple[Path, ...]:
    """Nodes for one entry of ``CUDA_VISIBLE_DEVICES``: a number in order of PCI addresses, or a UUID.

    A node's number is not the GPU's index: the driver says which belongs to which. Where it does not (a MIG
    instance, a container that hides the table), the nodes of all GPUs that this process has are returned.
    """
    shared = tuple(path for path in (dev / Path(name).name for name in _SHARED) if path.exists())
    here = {
        int(node.name.removeprefix("nvidia")): node
        for node in dev.glob("nvidia*")
        if node.name.removeprefix("nvidia").isdigit()
    }
    table = [(minor, uuid) for minor, uuid in _table(proc) if minor in here]
    if visible.isdigit() and int(visible) < len(table):
        return (*shared, here[table[int(visible)][0]])
    named = [minor for minor, uuid in table if visible.startswith("GPU-") and uuid.startswith(visible)]
    if len(named) == 1:
        return (*shared, here[named[0]])
    capabilities = (
        (dev / "nvidia-caps",) if visible.startswith("MIG-") and (dev / "nvidia-caps").exists() else ()
    )
    return (*shared, *(node for _, node in sorted(here.items())), *capabilities)


def _table(proc: Path) -> list[tuple[int, str]]:
    """(minor, UUID) of every GPU the driver knows, by PCI address."""
    found = []
    for directory in sorted(proc.glob("*")):
        try:
            facts = dict(_INFORMATION.findall((directory / "information").read_text()))
        except OSError:
            continue
        if "Device Minor" in facts:
            found.append((int(facts["Device Minor"]), facts.get("GPU UUID", "")))
    return found
