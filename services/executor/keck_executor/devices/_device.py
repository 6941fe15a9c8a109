"""The interface both devices implement."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch

__all__ = ["Arena", "Device"]


class Arena(Protocol):
    """Memory that the judge owns."""

    bytes: torch.Tensor
    """All of it, as uint8 on the device."""

    def share(self) -> tuple[dict[str, Any], list[int]]:
        """What a runner needs to attach it: fields for the command, and descriptors to send along."""
        ...

    def close(self) -> None:
        """Give the memory back; views must not be used any more."""
        ...


class Device(Protocol):
    """Where both sides of a check run."""

    kind: Literal["cpu", "cuda"]
    torch_device: torch.device
    bursts: bool
    """Whether calls can be enqueued behind a flag and run without the host."""
    edge_s: float
    """Least uncertainty of a timed stretch: what a trick at its edges was measured to gain, in seconds."""
    bandwidth: float | None
    """Bytes a second that memory was seen to reach; None where nothing is concluded from it."""
    cache_bytes: int
    """Size of the last-level cache."""

    def arena(self, size: int) -> Arena:
        """Fresh memory of at least `size` bytes."""
        ...

    def free_bytes(self) -> int:
        """How much memory could still be had."""
        ...

    def synchronize(self) -> None:
        """Wait until the judge's own work on the device is over."""
        ...

    def open_result(self, handle: bytes) -> torch.Tensor:
        """A runner's allocation as bytes; opened once per handle.

        Raises:
            RuntimeError: the handle cannot be opened.
        """
        ...

    def close_results(self) -> None:
        """Forget all opened allocations."""
        ...

    def flush_cache(self) -> None:
        """Push everything out of the last-level cache."""
        ...

    def scrub(self) -> None:
        """Overwrite all free memory."""
        ...

    def busy_s(self) -> float:
        """Flush the cache; how much longer than on an idle device that took, in seconds."""
        ...

    def facts(self) -> dict[str, str | float | None]:
        """What the verdict and the heartbeat say of this device."""
        ...

    def state(self) -> dict[str, str | float | None]:
        """Of this moment, where it can be read: ``clocks_mhz``, ``temperature_c``, ``throttled`` (why, or ``no``)."""
        ...
