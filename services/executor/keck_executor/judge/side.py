"""One side of a check: its runner, the memory shared with it, and single calls."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from keck.verdict import Verdict
from keck_executor.devices import Arena, Device
from keck_executor.judge.failure import Failed, failure_of
from keck_executor.judge.inputs import Form, InputSet, checked_view
from keck_executor.judge.link import BrokenProtocol, RunnerLink
from keck_executor.judge.traps import Commit, RedZones, poison
from keck_executor.runner.tree import dtype_name, nodes_to_json
from keck_executor.runner.wire import ALIGNMENT, Node, ProtocolError, Reply, Status, align

__all__ = [
    "IN_ARENA",
    "JITTER_SLOTS",
    "OUT_ARENA",
    "STATE_ARENA",
    "CheckedSide",
    "SingleCall",
    "require_settled",
]

IN_ARENA = 1
OUT_ARENA = 2
STATE_ARENA = 3
JITTER_SLOTS = 16
"""Places, 512 bytes apart, at one of which the inputs of a call begin."""
_FIRST_GUESS = 16 << 20
_MOST_PLACES, _PLACES_BYTES = 8, 64 << 20


@dataclass(frozen=True, slots=True)
class SingleCall:
    """One call of `forward` and what came of it."""

    reply: Reply
    outputs: tuple[torch.Tensor, ...]
    """Views of the side's arena: valid until its next call. Empty where the reply had no room for them."""
    seconds: float
    """From before the inputs were laid out (on a CPU: from the command) to the commit, by the judge's clock."""
    laid_out_s: float
    """What of that laying out the inputs took."""
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
        self._base = 0

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
        same_place: bool = False,
        last: bool = False,
        op: Literal["call", "probe", "trace"] = "call",
        double: bool = False,
    ) -> SingleCall:
        """One call over fresh copies of the inputs, at an address that moves.

        Where its outputs are to go the runner learns when `forward` has returned: one of several places, so that it
        cannot have written them there itself and saved the copy that is part of both sides' time.

        The runner stands still from the end of the call to its next command: what it might go on doing can
        neither touch outputs that are being compared, nor slow the other side down while that is timed. So it does
        while its inputs are laid out; on a GPU, where its kernels may run all the same, they come within the clock.

        Args:
            inputs: the set; its master is copied into the arena.
            tf32: ``off`` for expected values.
            null: everything but `forward`: what the protocol itself costs.
            flush: push inputs out of the cache first.
            same_place: at the address of the call before, where that had inputs of this size.
            last: end the runner as soon as it says that it is done.
            op, double: see :meth:`probe`; ``trace`` has the runner say, besides, what ran.

        Raises:
            Failed: user code failed, it went on after the call, or there is no memory for what it is given and returns.
            BrokenProtocol: it described its outputs impossibly, or could not be stopped.
        """
        size = inputs.form.size
        self.ensure(IN_ARENA, size + JITTER_SLOTS * ALIGNMENT)
        room = align(self.out_bytes or _FIRST_GUESS)
        places = self._places(room)
        self.ensure(OUT_ARENA, places * room)
        self.link.freeze()
        if not same_place:
            self._base = ALIGNMENT * secrets.randbelow(JITTER_SLOTS)
        base = self._base
        arena, out = self.memory(IN_ARENA), self.memory(OUT_ARENA)
        held = arena[base : base + size]
        zones = RedZones(arena, base, base + size)
        place = room * secrets.randbelow(places)
        poison(out[place : place + room])
        if self.device.kind == "cpu":
            held.copy_(inputs.master)
        if flush:
            self.device.flush_cache()
        self.device.synchronize()
        items = [[inputs.form_id, base]]
        self.link.require_still()
        started = time.perf_counter()
        if self.device.kind == "cuda":
            held.copy_(inputs.master)
            self.device.synchronize()
        laid_out = time.perf_counter()
        command = {"items": items, "arena": IN_ARENA, "tf32": tf32, "null": null, "double": double}
        reply = self._called(op, command, place=place, room=room)
        if last:
            self.link.kill()
        needed = int(reply.numbers[1])
        if reply.status is Status.NO_ROOM and self.link.side == "reference":
            self.out_bytes = needed
            return self.call(inputs, tf32=tf32, null=null, flush=flush, op=op, double=double)
        # A candidate's arena is made for the reference's outputs: what does not fit has another form.
        outputs = self._outputs(reply, out[place : place + room])
        commit = Commit.prepare(outputs, dense=outputs)
        commit.take()  # by the judge, in its own context
        seconds = time.perf_counter() - started
        self.out_bytes = max(self.out_bytes, min(needed, room))
        if not last:
            self.link.freeze()
        if self.link.side == "candidate":
            self.device.synchronize()
            require_settled(commit, zones)
        mutated = () if null else mutated_tensors(inputs, held)
        return SingleCall(reply, outputs, seconds, laid_out - started, mutated)

    def _called(self, op: str, command: dict[str, Any], *, place: int, room: int) -> Reply:
        """The reply to a call, its outputs put into place if they fit; ``NO_ROOM`` where they do not."""
        reply = self.link.ask(op, **command)
        if reply.status is not Status.OK:
            raise failure_of(self.link.side, reply, "calling forward")
        if int(reply.numbers[1]) > room:
            return replace(reply, status=Status.NO_ROOM)
        put = self.link.ask("put", out=OUT_ARENA, base=place)
        if put.status is not Status.OK:
            raise failure_of(self.link.side, put, "running forward")
        return reply

    def probe(self, inputs: InputSet, *, double: bool) -> SingleCall:
        """One call of a copy of the model, which leaves no trace in the model itself; TF32 is off.

        Args:
            inputs: the set.
            double: the copy and the inputs are in double precision.

        Raises:
            Failed: it cannot be copied, does not run in double precision, or there is no memory for it.
        """
        out_bytes = self.out_bytes
        try:
            return self.call(inputs, tf32="off", op="probe", double=double)
        finally:
            self.out_bytes = out_bytes

    def accept(self, inputs: InputSet, nodes: Sequence[Node], outputs: Sequence[torch.Tensor]) -> Reply:
        """Have the runner's module say whether it takes these outputs for those inputs; it stands still afterwards.

        Args:
            inputs: what they are the answer to.
            nodes: the structure of the answer.
            outputs: its tensors.
        """
        places, size = [], 0
        for output in outputs:
            places.append(size)
            size = align(size + output.numel() * output.element_size())
        self.ensure(IN_ARENA, max(1, inputs.form.size))
        self.ensure(OUT_ARENA, max(1, size))
        self.memory(IN_ARENA)[: inputs.form.size].copy_(inputs.master)
        for place, output in zip(places, outputs, strict=True):
            raw = output.reshape(-1).contiguous().view(torch.uint8)
            self.memory(OUT_ARENA)[place : place + raw.numel()].copy_(raw)
        self.device.synchronize()
        tensors = [
            [dtype_name(output.dtype), list(output.shape), place]
            for place, output in zip(places, outputs, strict=True)
        ]
        reply = self.link.ask(
            "accept",
            items=[[inputs.form_id, 0]],
            arena=IN_ARENA,
            out=OUT_ARENA,
            nodes=nodes_to_json(nodes),
            tensors=tensors,
        )
        self.link.freeze()
        return reply

    def close(self) -> None:
        """Free all arenas."""
        for arena in (*self._arenas.values(), *self._replaced):
            arena.close()
        self._arenas.clear()
        self._replaced.clear()

    def _places(self, room: int) -> int:
        """Where outputs may come to lie: several places, if memory bears more than one."""
        if room <= _PLACES_BYTES // _MOST_PLACES:
            return _MOST_PLACES
        return 2 if room <= _PLACES_BYTES or 8 * room <= self.device.free_bytes() else 1

    def _outputs(self, reply: Reply, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if reply.status is not Status.OK:
            return ()
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


def require_settled(commit: Commit, zones: RedZones) -> None:
    """What every call of a candidate must leave behind: outputs that stay, and nothing where it had no business.

    Raises:
        Failed: work went on after the call was said to be over, or memory around the inputs was written to.
    """
    if not commit.holds():
        raise Failed(
            Verdict.HACK_DETECTED,
            "outputs changed after the call was reported as done: work was still running",
            correct=False,
        )
    if not zones.intact():
        raise Failed(
            Verdict.WRONG_RESULT, "forward wrote to memory before or behind its inputs", correct=False
        )
