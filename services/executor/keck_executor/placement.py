"""Which device this executor serves, and what its processes must see of the machine for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keck.errors import SettingError
from keck.settings import Settings
from keck_executor.gpu_nodes import gpu_nodes

__all__ = ["Placement", "place"]


@dataclass(frozen=True, slots=True)
class Placement:
    """One device, and the environment that confines a process to it."""

    kind: Literal["cpu", "cuda"]
    index: int
    env: dict[str, str]
    devices: tuple[Path, ...] = ()
    """Its device nodes."""

    def target(self, facts: dict[str, str | float | None]) -> str:
        """The target this executor serves: ``cpu``, or ``sm90`` and the like."""
        return "cpu" if self.kind == "cpu" else "sm" + str(facts["arch"]).replace(".", "")


def place(settings: Settings, *, gpu_present: bool | None = None) -> Placement:
    """Read ``KECK_DEVICE``: ``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        SettingError: it names no device.
    """
    name = settings.device
    if name == "auto":
        present = Path("/dev/nvidiactl").exists() if gpu_present is None else gpu_present
        name = "cuda:0" if present else "cpu"
    threads = str(max(1, (os.cpu_count() or 2) - 1)) if name == "cpu" else "4"
    env = {
        "KECK_RUNNER_THREADS": threads,
        # As in the cells of the compiler, so that a candidate that looks at it asks for the same build.
        "CUDA_HOME": os.environ.get("CUDA_HOME", "/usr/local/cuda"),
    }
    if name == "cpu":
        # No GPU is to be touched from here, even where there is one.
        return Placement("cpu", 0, env | {"CUDA_VISIBLE_DEVICES": ""})
    named = re.fullmatch(r"cuda(?::([0-9]+))?", name)
    if named is None:
        raise SettingError(f"KECK_DEVICE={settings.device!r}: must be auto, cpu, cuda or cuda:N")
    number = int(named[1] or "0")
    seen = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    if seen and number >= len(seen):
        raise SettingError(f"KECK_DEVICE={settings.device!r}: CUDA_VISIBLE_DEVICES names only {len(seen)}")
    visible = seen[number].strip() if seen else str(number)
    return Placement(
        "cuda",
        number,
        env | {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        gpu_nodes(visible),
    )
