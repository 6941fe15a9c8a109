"""Memory that a runner shares with the judge: attaching arenas, and saying where a result lies."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import torch

from keck_executor.cuda_calls import cuda_ok

__all__ = ["CudaBytes", "DeviceFlags", "Exporter", "attach", "open_ipc"]


def attach(spec: dict[str, Any], fds: list[int]) -> torch.Tensor:
    """The arena that a command describes, as a tensor of bytes on the runner's device."""
    if spec["kind"] == "memfd":
        # With its pages mapped: the first touch of each would be part of a call's time.
        view = mmap.mmap(fds[0], spec["size"], flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        os.close(fds[0])
        return torch.frombuffer(view, dtype=torch.uint8)
    return open_ipc(bytes.fromhex(spec["handle"]), spec["size"])


class CudaBytes:
    """A raw device pointer, as torch takes it in."""

    def __init__(self, pointer: int, size: int, owner: object = None) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (pointer, False), "version": 3, "strides": None,
        }  # fmt: skip


def open_ipc(handle: bytes, size: int) -> torch.Tensor:
    """Another process's allocation of `size` bytes, as a tensor of bytes."""
    from cuda.bindings import runtime  # noqa: PLC0415 - absent on machines without a GPU

    ipc = runtime.cudaIpcMemHandle_t()
    ipc.reserved = handle
    pointer = cuda_ok(runtime.cudaIpcOpenMemHandle(ipc, runtime.cudaIpcMemLazyEnablePeerAccess))
    return torch.as_tensor(CudaBytes(int(pointer), size), device="cuda")


class Exporter:
    """IPC handles of the allocations that hold CUDA tensors, asked for once each: only while those tensors live."""

    def __init__(self) -> None:
        self._handles: dict[int, bytes | None] = {}

    def export(self, tensor: torch.Tensor) -> tuple[bytes, int] | None:
        """The handle for a tensor's memory, and its offset there in bytes.

        None where that memory cannot be exported (none of its own, or not from ``cudaMalloc``).
        """
        from cuda.bindings import driver  # noqa: PLC0415

        if tensor.numel() == 0:
            return None
        error, base, _ = driver.cuMemGetAddressRange(tensor.data_ptr())
        if error != driver.CUresult.CUDA_SUCCESS:
            return None
        if int(base) not in self._handles:
            self._handles[int(base)] = _ipc_handle(int(base))
        handle = self._handles[int(base)]
        return (handle, tensor.data_ptr() - int(base)) if handle is not None else None


def _ipc_handle(base: int) -> bytes | None:
    from cuda.bindings import runtime  # noqa: PLC0415

    error, handle = runtime.cudaIpcGetMemHandle(base)
    return bytes(handle.reserved) if error == runtime.cudaError_t.cudaSuccess else None


class DeviceFlags:
    """The mailbox: a page of 32-bit words that host and device code of both processes see.

    A burst waits on the word `GO` and writes `DONE`; the judge raises the one and watches the other.
    """

    GO = 0
    DONE = 64
    SIZE = 4096

    def __init__(self, fd: int) -> None:
        from cuda.bindings import runtime  # noqa: PLC0415

        self._page = mmap.mmap(fd, self.SIZE)
        os.close(fd)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        cuda_ok(runtime.cudaHostRegister(address, self.SIZE, runtime.cudaHostRegisterMapped))
        self._device = int(cuda_ok(runtime.cudaHostGetDevicePointer(address, 0)))

    def wait_for_go(self, stream: int, serial: int) -> None:
        """Enqueue: nothing behind this on the stream runs before GO reaches `serial`."""
        from cuda.bindings import driver  # noqa: PLC0415

        flag = driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ.value
        cuda_ok(driver.cuStreamWaitValue32(stream, self._device + self.GO, serial, flag))

    def write_done(self, stream: int, serial: int) -> None:
        """Enqueue: DONE becomes `serial` when everything before this on the stream is over."""
        from cuda.bindings import driver  # noqa: PLC0415

        flag = driver.CUstreamWriteValue_flags.CU_STREAM_WRITE_VALUE_DEFAULT.value
        cuda_ok(driver.cuStreamWriteValue32(stream, self._device + self.DONE, serial, flag))
