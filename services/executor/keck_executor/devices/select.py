"""Choosing the device by name."""

from __future__ import annotations

import platform

import torch

from keck_executor.devices._device import Device
from keck_executor.devices.cpu import CpuDevice
from keck_executor.devices.cuda import CudaDevice

__all__ = ["open_device"]


def open_device(kind: str) -> Device:
    """The device of a judge: ``cpu``, or ``cuda`` for the one GPU that this process can see.

    Raises:
        RuntimeError: the device cannot be used.
    """
    return CudaDevice() if kind == "cuda" else CpuDevice()


def versions() -> dict[str, str | float | None]:
    """Facts common to both devices."""
    return {"torch": str(torch.__version__), "cuda": torch.version.cuda, "python": platform.python_version()}
