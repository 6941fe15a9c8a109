"""One side of a check: its runner, the memory shared with it, and single calls."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from keck.verdict import Verdict
from keck_executor.devices import Arena, Device
from keck_executor.judge.failure import Failed, failure_of
from keck_executor.judge.inputs import Form, InputSet, checked_view
from keck_executor.judge.link import BrokenProtocol, RunnerLink
from keck_executor.runner.wire import ALIGNMENT, ProtocolError, Reply, Status

__all__ = [
    "IN_ARENA",
    "JITTER_SLOTS",
    "OUT_ARENA",
    "STATE_ARENA",
    "CheckedSide",
    "Commit",
    "SingleCall",
    "commit",
    "flat_bytes",
]

IN_ARENA = 1
OUT_ARENA = 2
STATE_ARENA = 3
JITTER_SLOTS = 16
"""Places, 512 bytes apart, at one of which the inputs of a call begin."""
_COMMIT_POINTS = 4096
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
    committed: tuple[Commit, ...] = ()
    """What was read of the outputs before the clock stopped, where a device may still have been at work."""


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
        free = self.device.free_bytes()
        if size > free:
            what = "inputs and outputs" if which != STATE_ARENA else "weights"
            raise Failed(
                Verdict.REFERENCE_ERROR,
                f"no memory for {what}: {size} bytes are needed, the device has {free} free",
            )
        if arena is not None:
            self._replaced.append(arena)  # the runner may still have it mapped
        arena = self._arenas[which] = self.device.arena(size)
        spec, fds = arena.share()
        self.link.must("attach", fds=fds, arena=which, **spec)

    def learn(self, forms: Sequence[Form]) -> None:
        """Tell the runner of forms it has not seen yet."""
        for index in range(self._forms_known, len(forms)):  # one by one: a command must fit a datagram
            self.link.must("forms", forms={index: forms[index].to_json()})
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

        The runner stands still from before its inputs are written until the clock runs, so that nothing of it can
        find them early; and again from the end of the call to its next command: what it might go on doing can
        neither touch outputs that are being compared, nor slow the other side down while that is timed. A runner
        that has other processes is charged until the last of them stands still: they are looked for one by one,
        and could go on working meanwhile.

        Args:
            inputs: the set; its master is copied into the arena before the clock starts.
            tf32: ``off`` for expected values.
            null: everything but `forward`: what the protocol itself costs.
            flush: push inputs out of the cache first.

        Raises:
            Failed: user code failed, or there is no memory for what it is given and returns.
            BrokenProtocol: it described its outputs impossibly, or could not be stopped.
        """
        size = inputs.form.size
        self.ensure(IN_ARENA, size + JITTER_SLOTS * ALIGNMENT)
        self.ensure(OUT_ARENA, self.out_bytes or _FIRST_GUESS)
        self.link.freeze()  # until `send`
        base = ALIGNMENT * secrets.randbelow(JITTER_SLOTS)
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
        needed = int(reply.numbers[1])
        if reply.status is Status.NO_ROOM and self.link.side == "reference" and needed > out.numel():
            self.out_bytes = needed
            return self.call(inputs, tf32=tf32, null=null, flush=flush)
        if reply.status not in (Status.OK, Status.NO_ROOM):
            raise failure_of(self.link.side, reply, "calling forward")
        if reply.status is Status.NO_ROOM and self.link.side == "reference":
            raise BrokenProtocol("reference", "no room for outputs that fit")
        # A candidate's arena is made for the reference's outputs: what does not fit has another form.
        outputs = self._outputs(reply)
        committed = commit(outputs[-1:]) if self.device.kind == "cuda" else ()
        seconds = time.perf_counter() - started
        if self.link.freeze():
            seconds = time.perf_counter() - started
        self.out_bytes = max(self.out_bytes, min(needed, out.numel()))
        mutated = () if null else mutated_tensors(inputs, held)
        return SingleCall(reply, outputs, seconds, mutated, committed)

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
        try:
            return tuple(checked_view(out, record, dense=True) for record in reply.tensors)
        except ProtocolError as error:
            raise BrokenProtocol(self.link.side, error) from error


def mutated_tensors(inputs: InputSet, held: torch.Tensor) -> tuple[int, ...]:
    """Which input tensors no longer hold what the judge's master holds."""
    if torch.equal(held, inputs.master):
        return ()
    spans = [(t.offset, t.offset + t.nbytes) for t in inputs.form.tensors]
    return tuple(i for i, (a, b) in enumerate(spans) if not torch.equal(held[a:b], inputs.master[a:b]))


def flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without gaps as its bytes in memory order: not every dtype has every operation."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


@dataclass(frozen=True, slots=True)
class Commit:
    """Bytes at random places of a tensor, as they were when the clock stopped."""

    tensor: torch.Tensor
    places: torch.Tensor
    values: torch.Tensor

    def still_holds(self) -> bool:
        """Whether they are the same now: if not, work was still running."""
        return torch.equal(flat_bytes(self.tensor).take(self.places), self.values)


def commit(tensors: Sequence[torch.Tensor]) -> tuple[Commit, ...]:
    """Read random places of each tensor, in the judge's own context, and wait until that is done."""
    taken = []
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        size = tensor.numel() * tensor.element_size()
        places = torch.randint(0, size, (min(size, _COMMIT_POINTS),), device=tensor.device)
        taken.append(Commit(tensor, places, flat_bytes(tensor).take(places)))
    if taken and taken[-1].values.is_cuda:
        torch.cuda.synchronize()
    return tuple(taken)
