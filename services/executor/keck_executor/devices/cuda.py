"""One NVIDIA GPU as a device: arenas are allocations of the judge, shared by CUDA IPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Literal

import torch

from keck_executor.cuda_calls import cuda_ok
from keck_executor.runner.memory import CudaBytes, open_ipc

__all__ = ["CudaDevice"]

_CALIBRATIONS = 25
_STREAMED = 512 << 20
_STREAMS = 8
# nvmlClocksEventReason*; what an idle device says, or a user who has set its clocks, is no throttling.
_THROTTLES = {
    0x04: "sw_power_cap", 0x08: "hw_slowdown", 0x10: "sync_boost", 0x20: "sw_thermal", 0x40: "hw_thermal",
    0x80: "hw_power_brake",
}  # fmt: skip
_SCRUB_LEAST = 2 << 20
"""Bytes: the driver's own granularity."""


class _DeviceArena:
    """A ``cudaMalloc`` of its own: exporting a block of torch's pool would share its neighbours too."""

    def __init__(self, size: int) -> None:
        from cuda.bindings import runtime  # noqa: PLC0415 - absent on machines without a GPU

        self._size = max(size, 1 << 21)
        self._pointer = int(cuda_ok(runtime.cudaMalloc(self._size)))
        self.bytes = torch.as_tensor(CudaBytes(self._pointer, self._size), device="cuda")

    def share(self) -> tuple[dict[str, Any], list[int]]:
        """The IPC handle; it opens under the same uid only."""
        from cuda.bindings import runtime  # noqa: PLC0415

        handle = cuda_ok(runtime.cudaIpcGetMemHandle(self._pointer))
        return {"kind": "ipc", "size": self._size, "handle": bytes(handle.reserved).hex()}, []

    def close(self) -> None:
        """Free the allocation."""
        from cuda.bindings import runtime  # noqa: PLC0415

        if self._pointer:
            runtime.cudaFree(self._pointer)
            self._pointer = 0
            self.bytes = torch.empty(0, dtype=torch.uint8)


class CudaDevice:
    """The one GPU this process can see (``CUDA_VISIBLE_DEVICES``)."""

    kind: Literal["cpu", "cuda"] = "cuda"
    bursts = True
    edge_s = 90e-6
    """43-90 microseconds measured (design paper on the judge): what an early DONE gains at the commit."""

    def __init__(self) -> None:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        self.torch_device = torch.device("cuda")
        properties = torch.cuda.get_device_properties(0)
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 64 << 20))
        self._flush = torch.empty(2 * self.cache_bytes // 4, dtype=torch.int32, device="cuda")
        self._opened: dict[bytes, tuple[torch.Tensor, int]] = {}
        self._nvml = _Nvml()
        self.bandwidth: float | None = _reached_bandwidth()
        self._idle_flush_s = median(self._timed_flush() for _ in range(_CALIBRATIONS))

    def arena(self, size: int) -> _DeviceArena:
        """Fresh device memory."""
        return _DeviceArena(size)

    def free_bytes(self) -> int:
        """Free memory of the card, what torch's pool holds unused included."""
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info()[0])

    def synchronize(self) -> None:
        """Wait for the judge's own stream."""
        torch.cuda.synchronize()

    def open_result(self, handle: bytes) -> torch.Tensor:
        """Map a block of the runner's caching allocator; its true size comes from the driver, not the runner."""
        found = self._opened.get(handle)
        if found is None:
            from cuda.bindings import driver  # noqa: PLC0415

            probe = open_ipc(handle, 1)
            _, size = cuda_ok(driver.cuMemGetAddressRange(probe.data_ptr()))
            view = torch.as_tensor(CudaBytes(probe.data_ptr(), int(size)), device="cuda")
            found = self._opened[handle] = (view, probe.data_ptr())
        return found[0]

    def close_results(self) -> None:
        """Unmap everything of the last runner."""
        from cuda.bindings import runtime  # noqa: PLC0415

        torch.cuda.synchronize()
        for _, pointer in self._opened.values():
            with contextlib.suppress(RuntimeError):
                cuda_ok(runtime.cudaIpcCloseMemHandle(pointer))
        self._opened.clear()

    def flush_cache(self) -> None:
        """Write twice the size of L2."""
        self._flush.zero_()

    def scrub(self) -> None:
        """Overwrite all free memory, block by block until there is none."""
        from cuda.bindings import runtime  # noqa: PLC0415

        blocks: list[int] = []
        size = self.free_bytes()
        while size >= _SCRUB_LEAST:
            error, pointer = runtime.cudaMalloc(size)
            if error != runtime.cudaError_t.cudaSuccess:
                size //= 2
                continue
            blocks.append(int(pointer))
            runtime.cudaMemsetAsync(pointer, 0, size, 0)
        self.synchronize()
        for pointer in blocks:
            runtime.cudaFree(pointer)

    def busy_s(self) -> float:
        """Flush the cache; how much longer than on an idle device that took, in seconds.

        Kernels of another process have the GPU in slices of about two milliseconds: while one of them runs, the
        judge's work waits.
        """
        return max(0.0, self._timed_flush() - self._idle_flush_s)

    def _timed_flush(self) -> float:
        started = time.perf_counter()
        self.flush_cache()
        self.synchronize()
        return time.perf_counter() - started

    def facts(self) -> dict[str, str | float | None]:
        """Name, UUID, driver, architecture."""
        properties = torch.cuda.get_device_properties(0)
        return {
            "gpu": properties.name,
            "gpu_uuid": f"GPU-{properties.uuid}",
            "driver": self._nvml.driver(),
            "arch": f"{properties.major}.{properties.minor}",
            "memory_bytes": float(properties.total_memory),
            "l2_bytes": float(self.cache_bytes),
        }

    def state(self) -> dict[str, str | float | None]:
        """SM clock, temperature and reasons for throttling, from NVML."""
        return self._nvml.state(f"GPU-{torch.cuda.get_device_properties(0).uuid}")


def _reached_bandwidth() -> float:
    """Bytes a second: the best of several copies and reads of half a gigabyte."""
    ours, other = (torch.zeros(_STREAMED // 8, dtype=torch.int64, device="cuda") for _ in range(2))
    streams: list[tuple[int, Callable[[], object]]] = [
        (2 * _STREAMED, lambda: other.copy_(ours)),
        (_STREAMED, ours.sum),
    ]
    best = 0.0
    for moved, work in streams * _STREAMS:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        best = max(best, 1e3 * moved / begin.elapsed_time(end))
    return best


class _Nvml:
    """The few facts that CUDA itself does not tell; None where NVML is not to be had."""

    def __init__(self) -> None:
        self._library: Any = None
        with contextlib.suppress(ImportError):
            import pynvml  # noqa: PLC0415

            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                self._library = pynvml

    def driver(self) -> str | None:
        """Version of the driver."""
        return str(self._library.nvmlSystemGetDriverVersion()) if self._library else None

    def state(self, uuid: str) -> dict[str, str | float | None]:
        """Of one GPU, now."""
        nvml = self._library
        if not nvml:
            return {}
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            reasons = int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
            return {
                "clocks_mhz": float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
                "temperature_c": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
                "throttled": "+".join(name for bit, name in _THROTTLES.items() if reasons & bit) or "no",
            }
        except nvml.NVMLError:
            return {}
