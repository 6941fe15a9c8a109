"""The frozen burst: K calls enqueued behind a flag, the runner stopped, the inputs revealed, the outputs committed.

From READY to the commit no host code of the candidate runs, and until the reveal its inputs are not on the
device: the arena holds inputs of earlier calls, whose answers are worth nothing. The clock starts before the reveal
and stops when the judge has read random places of the outputs in its own context, never at the word that the runner
writes. Each burst has input sets that no candidate has seen.
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
from keck_executor.judge.link import BrokenProtocol, OutOfBudget, Side
from keck_executor.judge.outputs import JudgedSet, Ledger, require_same_form
from keck_executor.judge.side import IN_ARENA, JITTER_SLOTS, OUT_ARENA, CheckedSide, require_settled
from keck_executor.judge.single_clock import AGAIN, Samples
from keck_executor.judge.stats import GAIN, is_settled
from keck_executor.judge.supply import Batch, Supply
from keck_executor.judge.timing_flags import BUSY_S
from keck_executor.judge.traps import Commit, RedZones, flat_bytes, poison_all
from keck_executor.runner.memory import DeviceFlags
from keck_executor.runner.wire import ALIGNMENT, FLAG_IN_PLACE, ProtocolError, Reply, Status, TensorRecord

__all__ = ["Burst", "BurstClock", "NotEnqueueable"]

_MAX_K = 256
_FIRST_K = 8
_READY_S = 0.5
"""A `forward` that has not come back by then waits for its own result, or the launch queue is full."""
_EDGES_PER_BURST = 50
_MIN_BURSTS = 5
_MAX_BURSTS = 25
_QUIET_WITHIN_S = 1.0
_TRAP_S = 5e-3
"""More than two slices of time that contexts on one GPU take turns in."""
_BRIEF_S = 0.25
_FEW_CALLS = 10
"""Enough, once it has taken that long and the medians are settled: a slow kernel needs no hundred calls."""
_NULL_BURSTS = 5
_ALONE = 15
_SPOT_CHECKS = 4
_PLAN_TRIES = 8
_AGREEMENT = 0.8
_SHORT = 0.5
_LAST_AFTER = 3
_DECOY_SETS = 4
_DECOY_ROUNDS = 3


class NotEnqueueable(Exception):
    """The candidate cannot be called ahead of its inputs: it is timed call by call."""


class _Overlap(Exception):
    """Results of different calls share memory: they must be copied out inside the clock."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst showed."""

    seconds: float
    events_s: float
    """By the runner's own events; 0 where it was ended before it could tell."""
    busy_s: float
    """How much longer than on an idle device the judge's own work took before the reveal."""


@dataclass(slots=True)
class _Plan:
    """How one side is called: calls a burst, and bytes of arena per call where outputs are copied (else 0)."""

    k: int
    slot: int
    cold: bool = False
    """The cache is flushed between reveal and flag: the inputs of a single call would lie in it, those of many do not."""


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
    """Times two sides by frozen bursts over the same, ever fresh, input sets.

    Args:
        supply: of input sets.
        seen: sets that both sides were called with before: decoys, and inputs of bursts that count for nothing.
        may_mutate: inputs that the reference changes, so that the candidate may.
        quiet_at_first: the device was idle before the candidate was loaded; False: somebody else has it too.
    """

    def __init__(
        self,
        device: Device,
        supply: Supply,
        ledger: Ledger,
        *,
        seen: Sequence[JudgedSet],
        may_mutate: Sequence[int],
        quiet_at_first: bool,
    ) -> None:
        self._device = device
        self._supply = supply
        self._ledger = ledger
        self._may_mutate = may_mutate
        self._quiet_at_first = quiet_at_first
        self._random = random.Random(secrets.randbits(64))
        self._slot, self._out_slot = supply.slot, supply.out_slot
        self._k_limit = min(_MAX_K, supply.most())
        self._seen = seen[:_DECOY_SETS]
        self._seen_rows = self._laid_out([inputs for inputs, _ in self._seen])
        self._mailboxes: dict[str, _Mailbox] = {}
        self._nulls: dict[tuple[int, int, bool], float] = {}

    def run(
        self, candidate: CheckedSide, reference: CheckedSide, *, calls: int, budget_s: float, last: bool
    ) -> Samples:
        """Alternate bursts of both sides (ABBA) until their medians are known well enough, or time is up.

        Args:
            candidate, reference: the sides.
            calls: timed calls of the candidate, at least, if there is time for them.
            budget_s: seconds; five bursts are taken whatever they last.
            last: nobody needs the candidate afterwards: it is ended at the end of a burst that it cannot know.

        Raises:
            NotEnqueueable: the candidate or the reference synchronises inside `forward`.
            Failed: an output of any call is wrong.
        """
        plans = {side.link.side: self._plan(side) for side in (reference, candidate)}
        if any(plan.slot for plan in plans.values()):  # a copy inside one clock belongs inside the other too
            plans = {name: _Plan(plan.k, self._out_slot) for name, plan in plans.items()}
        samples = self._samples(plans)
        started = time.monotonic()
        done = 0
        trap_after = self._random.randrange(_MIN_BURSTS)
        while not self._is_enough(samples, done, time.monotonic() - started, calls=calls, budget_s=budget_s):
            try:
                self._round(candidate, reference, plans, samples, reference_first=done % 2 == 0)
            except _Overlap:
                # They lay apart while it was planned: from here on all are copied, and timed afresh.
                plans = {name: _Plan(plan.k, self._out_slot) for name, plan in plans.items()}
                samples, done = self._samples(plans), 0
                continue
            done += 1
            if done == trap_after + 1:
                self._spring_trap(candidate, plans["candidate"])
            if done == _MIN_BURSTS:
                k = min(self._k_limit, self._k_for(median(samples.candidate)))
                if samples.calls_at_once < _SHORT * k:
                    # Much faster than when it was planned: bursts as short as these have too much edge.
                    plans["candidate"] = _Plan(k, plans["candidate"].slot)
                    samples, done = self._samples(plans), 0
        samples.null_s = self._nulls.get((plans["candidate"].k, 0, False), 0.0)
        if median(samples.reference) > GAIN * median(samples.candidate):
            self._time_alone(candidate, reference, plans, samples)
        if last:
            self._end(candidate, plans["candidate"])
        return samples

    def _samples(self, plans: dict[Side, _Plan]) -> Samples:
        at_once = plans["candidate"].k
        return Samples(
            batch="burst",
            calls_at_once=at_once,
            reference_at_once=plans["reference"].k,
            uncertainty_s=self._device.edge_s / at_once,
        )

    def _k_for(self, per_call_s: float) -> int:
        """Calls in a burst that lasts many times what its edges are worth."""
        return max(1, round(_EDGES_PER_BURST * self._device.edge_s / max(per_call_s, 1e-7)))

    @staticmethod
    def _is_enough(samples: Samples, done: int, spent_s: float, *, calls: int, budget_s: float) -> bool:
        """Whether to stop: never before five bursts, and then when more calls would tell nothing new."""
        if done < _MIN_BURSTS:
            return False
        if spent_s >= budget_s:
            return True
        many = samples.candidate_calls >= (calls if spent_s < _BRIEF_S else min(calls, _FEW_CALLS))
        settled = is_settled(samples.candidate, samples.reference, uncertainty_s=samples.uncertainty_s)
        return many and (settled or done >= _MAX_BURSTS)

    def reference_again(self, reference: CheckedSide, k: int) -> list[float]:
        """Seconds a call of the reference's, in bursts of k, once the candidate is gone with all it left on the device."""
        plan = _Plan(k, 0)
        found: list[float] = []
        while len(found) < AGAIN:
            batch = self._old_batch(k)
            try:
                seconds = self._burst(reference, plan, batch).seconds - self._null(reference, plan, batch)
            except _Overlap:
                plan = _Plan(k, self._out_slot)
                continue
            found.append(max(0.0, seconds) / k)
        return found

    def _round(
        self,
        candidate: CheckedSide,
        reference: CheckedSide,
        plans: dict[Side, _Plan],
        samples: Samples,
        *,
        reference_first: bool,
    ) -> None:
        batch = self._batch(max(plan.k for plan in plans.values()))
        for side in (reference, candidate) if reference_first else (candidate, reference):
            plan = plans[side.link.side]
            burst = self._burst(side, plan, batch)
            per_call = max(0.0, burst.seconds - self._null_of(side, reference, plan, batch)) / plan.k
            if side.link.side == "candidate":
                samples.candidate.append(per_call)
                samples.candidate_events.append(burst.events_s / plan.k)
                samples.candidate_calls += plan.k
                samples.busy_s.append(burst.busy_s)
            else:
                samples.reference.append(per_call)
                samples.reference_events.append(burst.events_s / plan.k)
                samples.reference_calls += plan.k

    def _time_alone(
        self, candidate: CheckedSide, reference: CheckedSide, plans: dict[Side, _Plan], samples: Samples
    ) -> None:
        """Calls that are a burst each: what is saved by doing the work of several calls at once is not saved here."""
        count = min(_ALONE, self._k_limit)
        if plans["candidate"].k < 2 * count:
            return
        batch = self._batch(count)
        for i in range(count):
            staged = batch.staged[i * self._slot : (i + 1) * self._slot]
            one = self._supply.together(staged, batch.sets[i : i + 1])
            for side, into in (
                (reference, samples.reference_alone),
                (candidate, samples.candidate_alone),
            ):
                plan = _Plan(1, plans[side.link.side].slot, cold=True)
                into.append(self._burst(side, plan, one).seconds - self._null_of(side, reference, plan, one))

    def _spring_trap(self, candidate: CheckedSide, plan: _Plan) -> None:
        """A burst whose inputs lie there for a while before the flag is raised; its time counts for nothing.

        Copying the inputs in is part of every burst and subtracted from it, so whatever waits for a word of an input
        instead of the flag computes in time that nobody counts. Here its outputs are there before the flag is.
        """
        try:
            self._burst(candidate, plan, self._batch(plan.k), trap=True)
        except _Overlap:
            self._burst(candidate, _Plan(plan.k, self._out_slot), self._batch(plan.k), trap=True)

    def _end(self, candidate: CheckedSide, plan: _Plan) -> None:
        """A few bursts more, checked like all others; at the last one's DONE the candidate's processes are killed."""
        for left in reversed(range(self._random.randint(1, _LAST_AFTER))):
            try:
                self._burst(candidate, plan, self._batch(plan.k), last=left == 0)
            except _Overlap:
                plan = _Plan(plan.k, self._out_slot)
                self._burst(candidate, plan, self._batch(plan.k), last=True)
                return

    def _old_batch(self, k: int) -> Batch:
        """Sets that the sides have seen, over and over: for bursts whose time counts for nothing."""
        chosen = [self._random.randrange(len(self._seen)) for _ in range(k)]
        rows = torch.tensor(chosen, device=self._device.torch_device)
        staged = torch.index_select(self._seen_rows, 0, rows).view(-1)
        return self._supply.together(staged, [self._seen[index] for index in chosen])

    def _batch(self, k: int) -> Batch:
        batch = self._supply.batch(k)
        if len(batch.sets) < k or batch.staged.numel() < k * self._slot:
            raise NotEnqueueable  # a law of several forms: what is enqueued together must be alike
        return batch

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
                burst = self._burst(side, plan, self._old_batch(plan.k))
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
            k = self._k_for((burst.seconds - 2 * self._device.edge_s) / plan.k)
            if burst.events_s < _AGREEMENT * burst.seconds:
                # Much of the burst is not the calls: several streams take milliseconds to wake, for one. More calls
                # make it weigh less. What the runner says of its events decides nothing but this.
                k = max(k, 4 * plan.k)
            k = max(1, min(limit, k))
            if k <= plan.k:
                return plan
            plan = _Plan(k, plan.slot)
        return plan

    def _null_of(self, side: CheckedSide, reference: CheckedSide, plan: _Plan, batch: Batch) -> float:
        """What is subtracted from a burst of that side.

        From the candidate's nothing for copies of its outputs, for it can have put them in place by itself.
        """
        if side.link.side == "candidate" and plan.slot:
            plan = _Plan(plan.k, 0, cold=plan.cold)
        try:
            return self._null(reference, plan, batch)
        except _Overlap:  # what the reference returns can only be copied
            return 0.0

    def _null(self, reference: CheckedSide, plan: _Plan, batch: Batch) -> float:
        """What a burst of this size costs without any `forward`, by the reference's runner."""
        key = (plan.k, plan.slot, plan.cold)
        if key not in self._nulls:
            self._nulls[key] = median(
                self._burst(reference, plan, batch, null=True).seconds for _ in range(_NULL_BURSTS)
            )
        return self._nulls[key]

    def _burst(
        self,
        side: CheckedSide,
        plan: _Plan,
        batch: Batch,
        *,
        null: bool = False,
        last: bool = False,
        trap: bool = False,
    ) -> Burst:
        base = ALIGNMENT * self._random.randrange(JITTER_SLOTS)
        region = plan.k * self._slot
        chosen, staged = batch.sets[: plan.k], batch.staged[:region]
        side.ensure(IN_ARENA, region + JITTER_SLOTS * ALIGNMENT)
        side.ensure(OUT_ARENA, max(1, plan.k * plan.slot))
        side.link.freeze()
        arena = side.memory(IN_ARENA)
        held, zones = arena[base : base + region], RedZones(arena, base, base + region)
        self._decoys(held, plan.k)
        self._device.synchronize()
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
            outputs = self._open(side, ready, plan, null=null)
        except (_Overlap, Failed):
            box.go()
            side.link.receive(serial)
            raise
        seconds, busy_s, commit = self._reveal(
            side, box, held, staged, outputs, last=last, trap=trap, cold=plan.cold
        )
        if side.link.side == "candidate":
            self._judge(ready, outputs, batch)
            self._require_inputs_kept(held, staged)
            require_settled(commit, zones)
        if last:
            return Burst(seconds, 0.0, busy_s)
        side.link.require_still()
        side.link.thaw()
        over = side.link.receive(serial)
        assert over is not None
        if over.status is not Status.OK:
            raise failure_of(side.link.side, over, "running forward")
        # Still until its next command: its host code cannot slow down what the other side is timed at.
        side.link.freeze()
        return Burst(seconds, over.numbers[0] / 1e3, busy_s)

    def _laid_out(self, sets: Sequence[InputSet]) -> torch.Tensor:
        """Masters as rows of one slot each."""
        rows = torch.zeros(len(sets), self._slot, dtype=torch.uint8, device=self._device.torch_device)
        for row, inputs in zip(rows, sets, strict=True):
            row[: inputs.master.numel()].copy_(inputs.master)
        return rows

    def _decoys(self, held: torch.Tensor, k: int) -> None:
        """Over every input, valid ones that are worth nothing: what fires before the reveal fires on them."""
        for _ in range(self._random.randint(1, _DECOY_ROUNDS)):
            rows = torch.randint(0, len(self._seen), (k,), device=held.device)
            torch.index_select(self._seen_rows, 0, rows, out=held.view(k, self._slot))

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
        self, side: CheckedSide, ready: Reply, plan: _Plan, *, null: bool
    ) -> list[tuple[torch.Tensor, ...]]:
        """Views of every call's results, in the runner's memory or in the arena."""
        per_call = self._supply.outputs
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
        memory = self._seen_rows[0] if 0 in record.shape else self._device.open_result(record.handle)
        return checked_view(memory, record)

    def _reveal(
        self,
        side: CheckedSide,
        box: _Mailbox,
        held: torch.Tensor,
        staged: torch.Tensor,
        outputs: Sequence[Sequence[torch.Tensor]],
        *,
        last: bool,
        trap: bool,
        cold: bool,
    ) -> tuple[float, float, Commit]:
        """Freeze, poison, start the clock, reveal, wait, commit.

        Returns:
            seconds; how late the judge's own work was before them; what was read at the commit.
        """
        side.link.freeze()
        poison_all([flat_bytes(tensor) for call in outputs for tensor in call if tensor.numel()])
        self._decoys(held, len(outputs))
        spots = [self._random.choice(outputs) for _ in range(_SPOT_CHECKS - 1)] + [outputs[-1]]
        commit = Commit.prepare(
            [tensor for call in outputs for tensor in call],
            dense=[tensor for call in spots for tensor in call],
        )
        self._device.synchronize()
        busy_s = self._quiet(side.link.side)  # which also pushes everything out of the cache
        started = time.perf_counter()
        held.copy_(staged)
        if cold:
            self._device.flush_cache()
        self._device.synchronize()
        if trap:
            self._require_untouched(commit)
        box.go()
        limit = started + max(0.01, side.link.budget_s - side.link.spent_s)
        while not box.done:
            if time.perf_counter() > limit:
                raise OutOfBudget(side.link.side, side.link.budget_s)
        if last:
            side.link.kill()
        commit.take()
        seconds = time.perf_counter() - started
        side.link.spent_s += seconds
        return seconds, busy_s, commit

    def _require_untouched(self, commit: Commit) -> None:
        """Give what waits for inputs the time to show itself, and look whether anything has.

        Raises:
            Failed: outputs are there before the flag is raised.
        """
        commit.take()
        time.sleep(_TRAP_S)
        if not commit.holds():
            raise Failed(
                Verdict.HACK_DETECTED,
                "outputs were computed before the call began: something waits for the inputs themselves",
                correct=False,
            )

    def _quiet(self, side: Side) -> float:
        """How late the judge's own work is; before the reference's turn, once nothing is on the device any more.

        Raises:
            Failed: the candidate's processes stand still, and something of theirs is still running.
        """
        busy_s = self._device.busy_s()
        if side == "candidate" or not self._quiet_at_first:
            return busy_s
        until = time.monotonic() + _QUIET_WITHIN_S
        while busy_s > BUSY_S:
            if time.monotonic() > until:
                raise Failed(
                    Verdict.HACK_DETECTED,
                    f"the GPU was still busy {_QUIET_WITHIN_S:g} s after the candidate's turn, when the reference's came",
                    correct=False,
                )
            busy_s = self._device.busy_s()
        return busy_s

    def _judge(self, ready: Reply, outputs: Sequence[Sequence[torch.Tensor]], batch: Batch) -> None:
        """Compare every call's outputs while the runner stands still."""
        per_call = self._supply.outputs
        expected = [wanted for _, wanted in batch.sets[: len(outputs)]]
        for i, wanted in enumerate(expected):
            require_same_form(ready.nodes, ready.tensors[i * per_call : (i + 1) * per_call], wanted)
        for i in self._ledger.compare_alike(outputs, expected, plain=batch.comparison.plain):
            self._ledger.compare(outputs[i], batch.comparison.expected(i))

    def _require_inputs_kept(self, held: torch.Tensor, staged: torch.Tensor) -> None:
        if not self._may_mutate and not torch.equal(held, staged):
            raise Failed(
                Verdict.WRONG_RESULT,
                "forward changed an input in place; the reference leaves it as it is",
                correct=False,
            )


def _overlapping(tensors: Sequence[torch.Tensor]) -> bool:
    spans = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors if t.numel())
    return any(a_end > b_start for (_, a_end), (b_start, _) in itertools.pairwise(spans))
