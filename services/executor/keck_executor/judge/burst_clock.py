"""The frozen burst: K calls enqueued behind a flag, the runner stopped, the inputs revealed, the outputs committed.

From READY to the commit no host code of the candidate runs, and until the reveal its inputs are not on the
device. The clock starts before the reveal and stops when the judge has read random places of the outputs in its
own context, never at the word that the runner writes.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from keck.verdict import Verdict
from keck_executor.devices import Device
from keck_executor.judge.failure import Failed, failure_of
from keck_executor.judge.inputs import InputSet, checked_view
from keck_executor.judge.link import BrokenProtocol, OutOfBudget
from keck_executor.judge.outputs import Expected, Ledger, require_same_form
from keck_executor.judge.side import IN_ARENA, JITTER_SLOTS, OUT_ARENA, CheckedSide, flat_bytes
from keck_executor.judge.single_clock import Samples
from keck_executor.runner.memory import DeviceFlags
from keck_executor.runner.wire import (
    ALIGNMENT,
    FLAG_IN_PLACE,
    MAX_TENSORS,
    ProtocolError,
    Reply,
    Status,
    TensorRecord,
    align,
)

__all__ = ["Burst", "BurstClock", "NotEnqueueable"]

_MAX_K = 256
_FIRST_K = 8
_READY_S = 0.5
"""A `forward` that has not come back by then waits for its own result, or the launch queue is full."""
_EDGES_PER_BURST = 50
_MEMORY_SHARE = 16
_MIN_BURSTS = 5
_NULL_BURSTS = 5
_SPOT_CHECKS = 4
_PLAN_TRIES = 8
_AGREEMENT = 0.8


class NotEnqueueable(Exception):
    """The candidate cannot be called ahead of its inputs: it is timed call by call."""


class _Overlap(Exception):
    """Results of different calls share memory: they must be copied out inside the clock."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst showed."""

    seconds: float
    events_s: float


@dataclass(slots=True)
class _Plan:
    """How one side is called: calls a burst, and bytes of arena per call where outputs are copied (else 0)."""

    k: int
    slot: int


class _Mailbox:
    """A page of words shared with one runner and its device."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("mailbox", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, DeviceFlags.SIZE)
        self._words = memoryview(mmap.mmap(self.fd, DeviceFlags.SIZE)).cast("I")
        self.flag = 0

    def next(self) -> int:
        """A value that GO has not reached yet."""
        self.flag += 1
        return self.flag

    def go(self) -> None:
        """Raise the flag."""
        self._words[DeviceFlags.GO // 4] = self.flag

    @property
    def done(self) -> bool:
        """Whether the device has written DONE. Only ends a wait: the commit decides."""
        return self._words[DeviceFlags.DONE // 4] == self.flag


class BurstClock:
    """Times two sides by frozen bursts over the same input sets.

    Args:
        sets: all of one form.
        may_mutate: inputs that the reference changes, so that the candidate may.
    """

    def __init__(
        self,
        device: Device,
        sets: Sequence[tuple[InputSet, Expected]],
        ledger: Ledger,
        *,
        may_mutate: Sequence[int],
    ) -> None:
        self._device = device
        self._sets = sets
        self._ledger = ledger
        self._may_mutate = may_mutate
        self._random = random.Random(secrets.randbits(64))
        self._slot = align(max(1, sets[0][0].form.size))
        self._out_slot = max(ALIGNMENT, sum(align(t.numel() * t.element_size()) for t in sets[0][1].tensors))
        self._staging = torch.empty(0, dtype=torch.uint8, device=device.torch_device)
        self._mailboxes: dict[str, _Mailbox] = {}
        self._nulls: dict[tuple[int, int], float] = {}
        free = device.free_bytes()
        by_memory = free // _MEMORY_SHARE // max(self._slot, self._out_slot)
        by_records = MAX_TENSORS // max(1, len(sets[0][1].tensors))
        self._k_limit = max(1, min(_MAX_K, by_memory, by_records))

    def run(self, candidate: CheckedSide, reference: CheckedSide, *, calls: int, budget_s: float) -> Samples:
        """Alternate bursts of both sides (ABBA) until there are enough, or time is up.

        Raises:
            NotEnqueueable: the candidate or the reference synchronises inside `forward`.
            Failed: an output of any call is wrong.
        """
        plans = {side.link.side: self._plan(side) for side in (reference, candidate)}
        if any(plan.slot for plan in plans.values()):  # a copy inside one clock belongs inside the other too
            plans = {name: _Plan(plan.k, self._out_slot) for name, plan in plans.items()}
        samples = Samples(batch="burst")
        wanted = max(_MIN_BURSTS, -(-calls // plans["candidate"].k))
        until = time.monotonic() + budget_s
        done = 0
        while done < wanted and (time.monotonic() < until or done < _MIN_BURSTS):
            for side in (reference, candidate) if done % 2 == 0 else (candidate, reference):
                try:
                    self._sample(side, reference, plans[side.link.side], samples)
                except _Overlap:
                    # They lay apart while it was planned: from here on all are copied, and timed afresh.
                    plans = {name: _Plan(plan.k, self._out_slot) for name, plan in plans.items()}
                    samples, done = Samples(batch="burst"), -1
                    break
            done += 1
        samples.uncertainty_s = self._device.edge_s / plans["candidate"].k
        return samples

    def _sample(self, side: CheckedSide, reference: CheckedSide, plan: _Plan, samples: Samples) -> None:
        burst = self._burst(side, plan)
        per_call = max(0.0, burst.seconds - self._null(reference, plan)) / plan.k
        if side.link.side == "candidate":
            samples.candidate.append(per_call)
            samples.candidate_events.append(burst.events_s / plan.k)
            samples.candidate_calls += plan.k
        else:
            samples.reference.append(per_call)
            samples.reference_events.append(burst.events_s / plan.k)
            samples.reference_calls += plan.k

    def _plan(self, side: CheckedSide) -> _Plan:
        """K such that a burst lasts many times what its edges are worth, and whether outputs must be copied."""
        box = self._mailboxes[side.link.side] = _Mailbox()
        side.link.must("mailbox", fds=[box.fd])
        os.close(box.fd)  # both mappings stay
        plan = _Plan(min(_FIRST_K, self._k_limit), 0)
        limit = self._k_limit
        failures = 0
        for _ in range(_PLAN_TRIES):
            try:
                burst = self._burst(side, plan)
            except _Overlap:
                plan = _Plan(plan.k, self._out_slot)
                continue
            except NotEnqueueable:
                failures += 1
                if (
                    failures > 1
                ):  # the first may have a passing reason: kernels loaded lazily, a pool that grows
                    if plan.k == 1:
                        raise
                    # More launches than the queue of a waiting stream takes, or a `forward` that synchronises.
                    limit = max(1, plan.k // 4)
                    plan = _Plan(limit, plan.slot)
                continue
            per_call = max(burst.seconds - 2 * self._device.edge_s, 1e-7) / plan.k
            k = round(_EDGES_PER_BURST * self._device.edge_s / per_call)
            if burst.events_s < _AGREEMENT * burst.seconds:
                # Much of the burst is not the calls: several streams take milliseconds to wake, for one. More calls
                # make it weigh less. What the runner says of its events decides nothing but this.
                k = max(k, 4 * plan.k)
            k = max(1, min(limit, k))
            if k <= plan.k:
                return plan
            plan = _Plan(k, plan.slot)
        return plan

    def _null(self, reference: CheckedSide, plan: _Plan) -> float:
        """What a burst of this size costs without any `forward`, by the reference's runner."""
        key = (plan.k, plan.slot)
        if key not in self._nulls:
            self._nulls[key] = median(
                self._burst(reference, plan, null=True).seconds for _ in range(_NULL_BURSTS)
            )
        return self._nulls[key]

    def _burst(self, side: CheckedSide, plan: _Plan, *, null: bool = False) -> Burst:
        base = ALIGNMENT * self._random.randrange(JITTER_SLOTS)
        chosen = [self._random.choice(self._sets) for _ in range(plan.k)]
        if plan.k <= len(self._sets):
            chosen = self._random.sample(list(self._sets), plan.k)
        region = plan.k * self._slot
        side.ensure(IN_ARENA, region + JITTER_SLOTS * ALIGNMENT)
        side.ensure(OUT_ARENA, max(1, plan.k * plan.slot))
        self._stage([inputs for inputs, _ in chosen])
        held = side.memory(IN_ARENA)[base : base + region]
        self._decoys(held, plan.k)
        box = self._mailboxes[side.link.side]
        flag = box.next()
        items = [[inputs.form_id, base + i * self._slot] for i, (inputs, _) in enumerate(chosen)]
        serial = side.link.send(
            "burst",
            items=items,
            arena=IN_ARENA,
            out=OUT_ARENA,
            slot=plan.slot,
            flag=flag,
            tf32="stock",
            null=null,
        )
        ready = side.link.receive(serial, timeout_s=_READY_S)
        if ready is None or ready.status is not Status.READY:
            self._abandon(side, box, serial, ready)
        assert ready is not None
        try:
            outputs = self._open(side, ready, plan, len(chosen[0][1].tensors), null=null)
        except (_Overlap, Failed):
            box.go()
            side.link.receive(serial)
            raise
        seconds, committed = self._reveal(side, box, held, outputs, region)
        if not null:
            self._judge(side, ready, outputs, chosen)
            self._require_inputs_kept(side, held, region)
            self._require_unchanged(committed, side)
        side.link.thaw()
        over = side.link.receive(serial)
        assert over is not None
        if over.status is not Status.OK:
            raise failure_of(side.link.side, over, "running forward")
        # Still until its next command: its host code cannot slow down what the other side is timed at.
        side.link.freeze()
        return Burst(seconds, over.numbers[0] / 1e3)

    def _stage(self, inputs: Sequence[InputSet]) -> None:
        """Lay the chosen masters out as the arena has them, so that the reveal is one copy."""
        size = len(inputs) * self._slot
        if self._staging.numel() < size:
            self._staging = torch.empty(size, dtype=torch.uint8, device=self._device.torch_device)
        for i, each in enumerate(inputs):
            self._staging[i * self._slot : i * self._slot + each.master.numel()].copy_(each.master)

    def _decoys(self, held: torch.Tensor, k: int) -> None:
        """One set's inputs in every place: valid, and saying nothing about which set will be revealed where.

        What fires before the reveal computes the wrong thing. The sets in another order would not do: whoever
        reads them while the calls are enqueued could compute every answer of the burst before the clock starts.
        """
        if k == 1:
            held.zero_()
            return
        decoy = self._random.choice(self._sets)[0].master
        for i in range(k):
            held[i * self._slot : i * self._slot + decoy.numel()].copy_(decoy)

    def _abandon(self, side: CheckedSide, box: _Mailbox, serial: int, ready: Reply | None) -> None:
        """Let a burst that was not enqueued run out on its decoys, and say why it counts for nothing."""
        self._device.synchronize()
        box.go()
        if ready is not None:
            raise failure_of(side.link.side, ready, "calling forward")
        late = side.link.receive(serial)
        if late is not None and late.status is Status.READY:
            late = side.link.receive(serial)
        if late is not None and late.status is not Status.OK:
            raise failure_of(side.link.side, late, "calling forward")
        raise NotEnqueueable

    def _open(
        self, side: CheckedSide, ready: Reply, plan: _Plan, per_call: int, *, null: bool
    ) -> list[tuple[torch.Tensor, ...]]:
        """Views of every call's results, in the runner's memory or in the arena."""
        if len(ready.tensors) != plan.k * per_call:
            what = "forward returned another number of tensors than before"
            if side.link.side == "reference":
                raise Failed(Verdict.REFERENCE_ERROR, f"the reference's {what}")
            raise Failed(Verdict.SHAPE_MISMATCH, what, correct=False)
        in_place = not plan.slot
        if in_place and any(
            not record.flags & FLAG_IN_PLACE and 0 not in record.shape for record in ready.tensors
        ):
            raise _Overlap
        try:
            flat = [self._view(side, record, in_place=in_place) for record in ready.tensors]
        except (ProtocolError, RuntimeError) as error:
            raise BrokenProtocol(side.link.side, f"results that cannot be opened: {error}") from error
        if in_place and not null and _overlapping(flat):
            raise _Overlap
        return [tuple(flat[i * per_call : (i + 1) * per_call]) for i in range(plan.k)]

    def _view(self, side: CheckedSide, record: TensorRecord, *, in_place: bool) -> torch.Tensor:
        if not in_place:
            return checked_view(side.memory(OUT_ARENA), record, dense=True)
        memory = self._staging if 0 in record.shape else self._device.open_result(record.handle)
        return checked_view(memory, record)

    def _reveal(
        self,
        side: CheckedSide,
        box: _Mailbox,
        held: torch.Tensor,
        outputs: Sequence[Sequence[torch.Tensor]],
        region: int,
    ) -> tuple[float, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """Freeze, poison, start the clock, reveal, wait, commit. Seconds, and what was read at the commit."""
        side.link.freeze()
        for call in outputs:
            for tensor in call:
                flat_bytes(tensor).fill_(0xFF)
        spots = [self._random.choice(outputs) for _ in range(_SPOT_CHECKS - 1)] + [outputs[-1]]
        watched = [(tensor, _places(tensor)) for call in spots for tensor in call if tensor.numel()]
        if region < 2 * (64 << 20):
            self._device.flush_cache()
        self._device.synchronize()
        started = time.perf_counter()
        held.copy_(self._staging[:region])
        self._device.synchronize()
        box.go()
        limit = started + max(0.01, side.link.budget_s - side.link.spent_s)
        while not box.done:
            if time.perf_counter() > limit:
                raise OutOfBudget(side.link.side, side.link.budget_s)
        taken = [(tensor, places, flat_bytes(tensor).take(places)) for tensor, places in watched]
        self._device.synchronize()
        seconds = time.perf_counter() - started
        side.link.spent_s += seconds
        return seconds, taken

    def _judge(
        self,
        side: CheckedSide,
        ready: Reply,
        outputs: Sequence[Sequence[torch.Tensor]],
        chosen: Sequence[tuple[InputSet, Expected]],
    ) -> None:
        """Compare every call's outputs while the runner stands still."""
        if side.link.side == "reference":
            return
        per_call = len(chosen[0][1].tensors)
        for i, (call, (_, expected)) in enumerate(zip(outputs, chosen, strict=True)):
            require_same_form(ready.nodes, ready.tensors[i * per_call : (i + 1) * per_call], expected)
            self._ledger.compare(call, expected)

    def _require_inputs_kept(self, side: CheckedSide, held: torch.Tensor, region: int) -> None:
        if side.link.side == "reference" or self._may_mutate:
            return
        if not torch.equal(held, self._staging[:region]):
            raise Failed(
                Verdict.WRONG_RESULT,
                "forward changed an input in place; the reference leaves it as it is",
                correct=False,
            )

    def _require_unchanged(
        self, committed: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], side: CheckedSide
    ) -> None:
        """Late work: what was read at the commit must still be there when the device has been idle."""
        if side.link.side == "reference":
            return
        for tensor, places, values in committed:
            if not torch.equal(flat_bytes(tensor).take(places), values):
                raise Failed(
                    Verdict.HACK_DETECTED,
                    "outputs changed after the device had reported the burst as done: work was still running",
                    correct=False,
                )


def _places(tensor: torch.Tensor) -> torch.Tensor:
    """Where bytes of a tensor are read at the commit."""
    size = tensor.numel() * tensor.element_size()
    return torch.randint(0, size, (min(size, 4096),), device=tensor.device)


def _overlapping(tensors: Sequence[torch.Tensor]) -> bool:
    spans = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors if t.numel())
    return any(a_end > b_start for (_, a_end), (b_start, _) in itertools.pairwise(spans))
