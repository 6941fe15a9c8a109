"""Input sets: drawn by the reference from secret seeds, mastered by the judge."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Any

import torch

from keck.verdict import Verdict
from keck_executor.devices import Arena, Device
from keck_executor.judge.failure import Failed, failure_of
from keck_executor.judge.link import BrokenProtocol, RunnerLink
from keck_executor.runner.tree import fills_its_extent, nodes_to_json
from keck_executor.runner.wire import (
    DTYPES,
    MAX_ELEMENTS,
    Node,
    ProtocolError,
    Reply,
    Status,
    TensorRecord,
)

__all__ = ["DRAW_ARENA", "Form", "InputDrawer", "InputSet", "checked_view", "derived_seeds"]

DRAW_ARENA = 0
_FIRST_GUESS = 16 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """The shape of an input set: its value tree, and each tensor's place relative to the set's base."""

    nodes: tuple[Node, ...]
    tensors: tuple[TensorRecord, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        """The form for a command."""
        return {
            "nodes": nodes_to_json(self.nodes),
            "tensors": [[t.dtype, t.shape, t.strides, t.offset, t.nbytes] for t in self.tensors],
        }


@dataclass(slots=True)
class InputSet:
    """One draw of ``get_inputs()``."""

    form_id: int
    form: Form
    master: torch.Tensor
    """The judge's own copy, as bytes on the device; no runner ever maps it."""
    expected: list[torch.Tensor] = field(default_factory=list)


class InputDrawer:
    """Has the reference draw sets and copies them to where only the judge can reach."""

    def __init__(self, link: RunnerLink, device: Device) -> None:
        self._link = link
        self._device = device
        self._arena: Arena | None = None
        self.forms: list[Form] = []
        self.seeds: list[str] = []
        """Secret seeds in the order in which they were used, hex; `SEEDxN` stands for the N seeds derived from one."""
        self.on_device = True
        """Whether ``get_inputs`` ran with the device as its default."""

    def draw(self, law: str = "get_inputs") -> InputSet | Reply:
        """A fresh set from that function of the reference's, or its reply where drawing failed.

        Raises:
            Failed: there is no memory for it.
            BrokenProtocol: the reference described it impossibly.
        """
        seed = secrets.randbits(64)
        reply = self._draw(seed, law, _FIRST_GUESS if self._arena is None else 0)
        if reply.status is Status.NO_ROOM:
            reply = self._draw(seed, law, int(reply.numbers[1]))
        if reply.status is not Status.OK:
            return reply
        self.seeds.append(f"{seed:016x}")
        self.on_device = self.on_device and bool(reply.numbers[0])
        return self._take(reply)

    def draw_more(self, form_id: int, count: int, *, arena: int, slot: int) -> int:
        """Fresh sets of a form, drawn into the reference's own arena, one every `slot` bytes.

        Returns:
            how many there are: fewer than `count` where ``get_inputs`` gave another form.

        Raises:
            Failed: ``get_inputs`` raised.
        """
        root = secrets.token_bytes(8)
        self.seeds.append(f"{root.hex()}x{count}")
        reply = self._link.ask(
            "draw_more", form=form_id, seeds=derived_seeds(root, count), arena=arena, slot=slot
        )
        if reply.status is not Status.OK:
            raise failure_of("reference", reply, "calling get_inputs")
        self.on_device = self.on_device and bool(reply.numbers[0])
        return min(count, int(reply.numbers[1]))

    def close(self) -> None:
        """Free the memory that draws pass through."""
        if self._arena is not None:
            self._arena.close()
            self._arena = None

    def _draw(self, seed: int, law: str, room: int) -> Reply:
        if room:
            self.close()
            free = self._device.free_bytes()
            if room > free:
                raise Failed(
                    Verdict.REFERENCE_ERROR, f"the inputs take {room} bytes; the device has {free} free"
                )
            self._arena = self._device.arena(room)
            spec, fds = self._arena.share()
            self._link.must("attach", fds=fds, arena=DRAW_ARENA, **spec)
        return self._link.ask("draw", seed=seed, law=law, arena=DRAW_ARENA, base=0)

    def _take(self, reply: Reply) -> InputSet:
        assert self._arena is not None
        size = int(reply.numbers[1])
        form = Form(reply.nodes, reply.tensors, size)
        try:
            if size > self._arena.bytes.numel():
                raise ProtocolError("inputs beyond the arena")
            for tensor in form.tensors:
                checked_view(self._arena.bytes[:size], tensor)
        except ProtocolError as error:
            raise BrokenProtocol(self._link.side, error) from error
        if form not in self.forms:
            self.forms.append(form)
        master = self._arena.bytes[:size].clone()
        self._device.synchronize()
        return InputSet(self.forms.index(form), form, master)


def derived_seeds(root: bytes, count: int) -> list[int]:
    """64-bit seeds of the sets of one batch: the first bytes of SHA-256 over the root and each one's number."""
    return [
        int.from_bytes(hashlib.sha256(root + index.to_bytes(4, "big")).digest()[:8], "big")
        for index in range(count)
    ]


def checked_view(
    memory: torch.Tensor, record: TensorRecord, *, base: int = 0, dense: bool = False
) -> torch.Tensor:
    """A tensor that a runner described, over memory the judge can see.

    Args:
        memory: bytes; nothing outside is ever touched.
        record: the runner's description; only what fits `memory` is accepted.
        base: where the record's offset counts from.
        dense: read it as contiguous, whatever strides were told (outputs copied to an arena).

    Raises:
        ProtocolError: it lies outside the memory, or its strides and sizes do not belong together.
    """
    if record.dtype not in DTYPES:
        raise ProtocolError("unknown dtype")
    dtype = getattr(torch, record.dtype)
    if math.prod(max(size, 1) for size in record.shape) > MAX_ELEMENTS:
        raise ProtocolError("a tensor larger than memory")
    numel = math.prod(record.shape)
    if numel == 0:
        return torch.empty(record.shape, dtype=dtype, device=memory.device)
    strides = _contiguous(record.shape) if dense else record.strides
    start, end = base + record.offset, base + record.offset + numel * dtype.itemsize
    if start < 0 or start % dtype.itemsize or end > memory.numel():
        raise ProtocolError("a tensor out of bounds or misaligned")
    if not fills_its_extent(record.shape, strides):
        raise ProtocolError("a tensor with gaps or with overlapping elements")
    # Of a dimension of one element the stride means nothing, and may be anything.
    told = [stride if size > 1 else 1 for size, stride in zip(record.shape, strides, strict=True)]
    return memory[start:end].view(dtype).as_strided(record.shape, told)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
