"""One side of a check: its runner, the memory shared with it, and single calls."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from keck_executor.devices import Arena, Device
from keck_executor.judge.failure import failure_of
from keck_executor.judge.inputs import Form, InputSet, checked_view
from keck_executor.judge.link import RunnerLink
from keck_executor.runner.wire import ALIGNMENT, Reply, Status

__all__ = ["IN_ARENA", "OUT_ARENA", "CheckedSide", "SingleCall", "fingerprint"]

IN_ARENA = 1
OUT_ARENA = 2
_JITTER_SLOTS = 16
_FINGERPRINT_POINTS = 4096
_FIRST_GUESS = 16 << 20


@dataclass(frozen=True, slots=True)
class SingleCall:
    """One call of `forward` and what came of it."""

    reply: Reply
    outputs: tuple[torch.Tensor, ...]
    """Views of the side's arena: valid until its next call. Empty where the reply had no room for them."""
    seconds: float
    """From the command to the commit, by the judge's clock."""
    mutated: tuple[int, ...]
    """Indices of input tensors whose bytes have changed."""


class CheckedSide:
    """Reference or candidate, with the arenas it is given."""

    def __init__(self, link: RunnerLink, device: Device) -> None:
        self.link = link
        self.device = device
        self._arenas: dict[int, Arena] = {}
        self.out_bytes = 0
        """What the outputs of one call take in the arena, once known."""
        self._replaced: list[Arena] = []
        self._forms_known = 0

    def memory(self, which: int) -> torch.Tensor:
        """One of the arenas as bytes."""
        return self._arenas[which].bytes

    def ensure(self, which: int, size: int) -> None:
        """Make an arena at least this large, and give it to the runner."""
        arena = self._arenas.get(which)
        if arena is not None and arena.bytes.numel() >= size:
            return
        if arena is not None:
            self._replaced.append(arena)  # the runner may still have it mapped
        arena = self._arenas[which] = self.device.arena(size)
        spec, fds = arena.share()
        self.link.must("attach", fds=fds, arena=which, **spec)

    def learn(self, forms: Sequence[Form]) -> None:
        """Tell the runner of forms it has not seen yet."""
        new = {index: form.to_json() for index, form in enumerate(forms) if index >= self._forms_known}
        if new:
            self.link.must("forms", forms=new)
            self._forms_known = len(forms)

    def call(
        self,
        inputs: InputSet,
        *,
        tf32: Literal["off", "stock"] = "stock",
        null: bool = False,
        flush: bool = False,
    ) -> SingleCall:
        """One call over fresh copies of the inputs, at an address that moves.

        Args:
            inputs: the set; its master is copied into the arena before the clock starts.
            tf32: ``off`` for expected values.
            null: everything but `forward`: what the protocol itself costs.
            flush: push inputs out of the cache first.

        Raises:
            Failed: user code failed, or returned what cannot be judged.
        """
        size = inputs.form.size
        self.ensure(IN_ARENA, size + _JITTER_SLOTS * ALIGNMENT)
        self.ensure(OUT_ARENA, self.out_bytes or _FIRST_GUESS)
        base = ALIGNMENT * secrets.randbelow(_JITTER_SLOTS)
        held, out = self.memory(IN_ARENA)[base : base + size], self.memory(OUT_ARENA)
        held.copy_(inputs.master)
        out[: self.out_bytes or out.numel()].fill_(0xFF)  # NaN in every float format
        if flush:
            self.device.flush_cache()
        self.device.synchronize()
        items = [[inputs.form_id, base]]
        started = time.perf_counter()
        serial = self.link.send("call", items=items, arena=IN_ARENA, out=OUT_ARENA, tf32=tf32, null=null)
        reply = self.link.receive(serial)
        assert reply is not None
        if reply.status is Status.NO_ROOM and self.link.side == "reference":
            self.out_bytes = int(reply.numbers[1])
            return self.call(inputs, tf32=tf32, null=null, flush=flush)
        if reply.status not in (Status.OK, Status.NO_ROOM):
            raise failure_of(self.link.side, reply, "calling forward")
        # A candidate's arena is made for the reference's outputs: what does not fit has another form.
        outputs = self._outputs(reply)
        if self.device.kind == "cuda":
            fingerprint(outputs[-1:])  # the commit: read by the judge, in its own context
        seconds = time.perf_counter() - started
        self.out_bytes = max(self.out_bytes, min(int(reply.numbers[1]), out.numel()))
        self.link.freeze()
        return SingleCall(reply, outputs, seconds, () if null else mutated_tensors(inputs, held))

    def release(self) -> None:
        """Let the runner go on after the outputs of a call have been looked at."""
        self.link.thaw()

    def close(self) -> None:
        """Free all arenas."""
        for arena in (*self._arenas.values(), *self._replaced):
            arena.close()
        self._arenas.clear()
        self._replaced.clear()

    def _outputs(self, reply: Reply) -> tuple[torch.Tensor, ...]:
        if reply.status is not Status.OK:
            return ()
        out = self.memory(OUT_ARENA)
        return tuple(checked_view(out, record, dense=True) for record in reply.tensors)


def mutated_tensors(inputs: InputSet, held: torch.Tensor) -> tuple[int, ...]:
    """Which input tensors no longer hold what the judge's master holds."""
    if torch.equal(held, inputs.master):
        return ()
    spans = [(t.offset, t.offset + t.nbytes) for t in inputs.form.tensors]
    return tuple(i for i, (a, b) in enumerate(spans) if not torch.equal(held[a:b], inputs.master[a:b]))


def fingerprint(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Bytes at random places of each tensor, read by the judge and settled: the commit of a call."""
    taken = []
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        places = torch.randint(
            0, tensor.numel(), (min(tensor.numel(), _FINGERPRINT_POINTS),), device=tensor.device
        )
        taken.append(tensor.as_strided((tensor.numel(),), (1,)).take(places))
    if taken and taken[-1].is_cuda:
        torch.cuda.synchronize()
    return taken
