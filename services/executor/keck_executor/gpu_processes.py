"""Whether the driver still counts a process that is gone among those on the GPU."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

__all__ = ["GpuProcesses"]

_LOOK_EVERY_S = 0.1


class GpuProcesses:
    """What NVML says of one GPU. It counts in the host's pids: in a container nothing can be told.

    Args:
        uuid: of the GPU, as the judge's facts name it.
    """

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._nvml: Any = None
        with contextlib.suppress(ImportError):
            import pynvml  # noqa: PLC0415 - with the executor's extra only

            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                self._nvml = pynvml

    def listed(self) -> set[int] | None:
        """Pids that hold the GPU; None where NVML is not to be had."""
        if self._nvml is None:
            return None
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            return {each.pid for each in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        except self._nvml.NVMLError:
            return None

    def ghosts(self, judge: int) -> set[int] | None:
        """Pids that hold the GPU and that no process here has; None where they cannot be told.

        Args:
            judge: pid of a process that certainly holds it: if it is not listed, pids mean something else there.
        """
        listed = self.listed()
        if listed is None or judge not in listed:
            return None
        return {pid for pid in listed if not os.path.exists(f"/proc/{pid}")}

    async def gone(self, judge: int) -> None:
        """Wait until there are no ghosts."""
        while await asyncio.to_thread(self.ghosts, judge):  # noqa: ASYNC110 - the driver tells nobody
            await asyncio.sleep(_LOOK_EVERY_S)
