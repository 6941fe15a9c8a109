"""What the judge lays out around a call, so that it sees what was written where, and when."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Commit", "RedZones", "flat_bytes", "poison", "poison_all"]

_POINTS = {"cuda": 4096, "cpu": 512}
_WINDOW = 512
_ZONE = 8192
# Not a number as a half, bfloat16, float and double alike.
_NANS = [*range(0x7FF1, 0x8000), *range(0xFFF1, 0x10000)]


def flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without gaps as its bytes in memory order: not every dtype has every operation."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def poison(memory: torch.Tensor) -> None:
    """Overwrite bytes with a pattern that is not a number in any wide float format, another one each time.

    Results that are still poison were not computed by the call; and no candidate can look for a pattern it knows.
    """
    poison_all([memory])


def poison_all(memories: Sequence[torch.Tensor]) -> None:
    """The same for many stretches of bytes that do not overlap, with one pattern, in a few launches."""
    word = 0
    for _ in range(4):
        word = word << 16 | secrets.choice(_NANS)
    words = []
    for memory in memories:
        whole = memory.numel() // 8 * 8 if memory.data_ptr() % 8 == 0 else 0
        if whole:
            words.append(memory[:whole].view(torch.int64))
        if whole < memory.numel():
            memory[whole:].fill_(0xFF)
    if words:
        torch._foreach_zero_(words)
        torch._foreach_add_(words, word - (1 << 64) if word >> 63 else word)


class RedZones:
    """Random bytes before and behind a stretch of an arena, which nobody has a reason to write to.

    Args:
        arena: all of it, as bytes.
        start, end: the stretch that a runner is told of.
    """

    def __init__(self, arena: torch.Tensor, start: int, end: int) -> None:
        self._zones = [arena[max(0, start - _ZONE) : start], arena[end : end + _ZONE]]
        for zone in self._zones:
            zone.random_(0, 256)
        self._copies = [zone.clone() for zone in self._zones]

    def intact(self) -> bool:
        """Whether they hold what was put there."""
        return all(torch.equal(zone, copy) for zone, copy in zip(self._zones, self._copies, strict=True))


@dataclass(slots=True)
class Commit:
    """Random places of a call's outputs, as the judge reads them when it stops the clock.

    What changes afterwards was not computed when the call was said to be over. Each output of each call has a window
    of its own, so that no whole call can be left for later; `dense` outputs are read at thousands of places.
    """

    _windows: list[torch.Tensor]
    _places: list[tuple[torch.Tensor, torch.Tensor]]
    _seen: list[torch.Tensor] | None = None

    @classmethod
    def prepare(cls, outputs: Sequence[torch.Tensor], *, dense: Sequence[torch.Tensor]) -> Commit:
        """Choose the places; nothing is read yet.

        Args:
            outputs: all tensors that the calls return, without gaps.
            dense: those of them that are read at many places.
        """
        windows = []
        for tensor in outputs:
            if tensor.numel():
                size = tensor.numel() * tensor.element_size()
                start = secrets.randbelow(max(1, size - _WINDOW + 1))
                windows.append(flat_bytes(tensor)[start : start + _WINDOW])
        places = []
        for tensor in dense:
            if tensor.numel():
                size = tensor.numel() * tensor.element_size()
                count = min(size, _POINTS[tensor.device.type])
                places.append((tensor, torch.randint(0, size, (count,), device=tensor.device)))
        return cls(windows, places)

    def take(self) -> None:
        """Read; on a GPU this returns when the reads have completed."""
        self._seen = self._read()
        if self._seen and self._seen[0].is_cuda:
            torch.cuda.synchronize()

    def holds(self) -> bool:
        """Whether every place still holds what was read."""
        assert self._seen is not None
        return all(torch.equal(now, seen) for now, seen in zip(self._read(), self._seen, strict=True))

    def _read(self) -> list[torch.Tensor]:
        read = [torch.cat(self._windows)] if self._windows else []
        return read + [flat_bytes(tensor).take(places) for tensor, places in self._places]
