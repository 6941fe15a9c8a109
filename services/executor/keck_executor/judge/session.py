"""One check, from two idle runners to an outcome."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal

import msgspec
import torch

from keck.messages import AloneMs, EventsMs, Flag, Lint, Profile, Provenance, Stage, Timing
from keck.verdict import Verdict
from keck_executor.devices import Device
from keck_executor.judge.burst_clock import BurstClock, NotEnqueueable
from keck_executor.judge.contract import Acceptance, Contract, contract_of, require_equal_buffers
from keck_executor.judge.failure import Failed, failure_of, text_of
from keck_executor.judge.inputs import InputDrawer, InputSet
from keck_executor.judge.job import Job
from keck_executor.judge.link import OutOfBudget, RunnerGone, RunnerLink
from keck_executor.judge.lint import Linted, Linter, Lints
from keck_executor.judge.outputs import Expected, Ledger, require_same_form, require_tensors, structure_of
from keck_executor.judge.provenance import asks_for_trace, provenance_of, unjudged_provenance
from keck_executor.judge.roofline import bytes_that_matter, floor_of
from keck_executor.judge.side import IN_ARENA, CheckedSide, SingleCall
from keck_executor.judge.single_clock import Samples, check_call, reference_singles, time_singles
from keck_executor.judge.stats import (
    GAIN,
    charged_s,
    interval_at_least,
    interval_ms,
    is_slowed,
    noise_of,
    speedup_of,
)
from keck_executor.judge.supply import Supply
from keck_executor.judge.timing_flags import BUSY_S, reference_slowed, timing_flags
from keck_executor.judge.weights import match_weights
from keck_executor.runner.tree import nodes_to_json
from keck_executor.runner.wire import Status

__all__ = ["CONSTRUCTION_SEED", "Session"]

CONSTRUCTION_SEED = 42
"""Of both models; public, and independent of the secret seeds of the inputs."""

_SETS_BYTES = 1 << 30
_MEMORY_SHARE = 6
_TIMING_SHARE = 0.25
_PROFILE_S = 30.0
_SETS_TO_PERTURB = 2
_TIMING_MAX_S = 2.0
_MERGED = 1.1


class Session:
    """Judges one candidate. All state of a check lives and dies with it.

    Args:
        job: what is judged and how.
        device: where.
        candidate, reference: links to two fresh runners.
        announce: called when a stage begins.
        lints: what this judge has found of references so far.
    """

    def __init__(
        self,
        job: Job,
        device: Device,
        *,
        candidate: RunnerLink,
        reference: RunnerLink,
        announce: Callable[[Stage, str], None],
        lints: Lints,
    ) -> None:
        self._job = job
        self._device = device
        self._candidate = CheckedSide(candidate, device)
        self._reference = CheckedSide(reference, device)
        self._announce = announce
        self._drawer = InputDrawer(reference, device)
        self._sets: list[tuple[InputSet, Expected]] = []
        self._may_mutate: tuple[int, ...] = ()
        self._ledger: Ledger | None = None
        self._lints = lints
        self._linted: Linted | None = None
        self._quiet_at_first = False
        self._samples: Samples | None = None
        self._clock: BurstClock | None = None
        self._construct: dict[str, Any] = {}
        self._contract = Contract(accepts=False, buffers=False)
        self._acceptance: Acceptance | None = None
        self.stage: Stage = "load"
        self.timing: Timing | None = None
        self.profile: Profile | None = None
        self.provenance: Provenance = unjudged_provenance(job, device.kind)
        self.lint: Lint | None = None
        self.flags: list[Flag] = []
        self.suspicion = ""
        """Why the timing cannot be right, if it cannot: to be confirmed by other runners."""
        self.phases_s: dict[str, float] = {}

    @property
    def ledger(self) -> Ledger | None:
        """What was compared, once anything was."""
        return self._ledger if self._ledger is not None and self._ledger.calls else None

    @property
    def seeds(self) -> str:
        """The secret seeds of the sets in the order they were drawn (:attr:`InputDrawer.seeds`)."""
        return ",".join(self._drawer.seeds)

    def run(self) -> None:
        """Load, compare, time.

        Raises:
            Failed: the candidate or the reference did; everything found until then stays readable.
        """
        self._quiet_at_first = self._device.bursts and self._device.busy_s() <= BUSY_S
        self._phase("load", "loading candidate and reference", self._load)
        self._phase("correctness", "comparing outputs over secret inputs", self._check_correctness)
        if self._job.options.timed_calls:
            self._phase("timing", "timing both sides", self._time)
        if self._job.options.profile:
            self._take_profile()
        self.stage = "done"
        if asks_for_trace(self._job):
            self._take_trace()
        if self.timing is not None and self.timing.speedup > GAIN:
            self._time_reference_again()

    def close(self) -> None:
        """Free everything on the device that belongs to this check."""
        self._drawer.close()
        self._device.close_results()
        for side in (self._candidate, self._reference):
            side.close()
        self._sets.clear()

    def _phase(self, stage: Stage, message: str, work: Callable[[], None]) -> None:
        self.stage = stage
        self._announce(stage, message)
        started = time.monotonic()
        try:
            work()
        finally:
            self.phases_s[stage] = time.monotonic() - started

    # --- load

    def _load(self) -> None:
        job = self._job
        asked: dict[CheckedSide, dict[str, Any]] = {
            self._reference: {
                "role": "reference",
                "path": job.reference_path,
                "classes": ["Model"],
                "names": job.reference_names,
                "extensions": [],
            },
            self._candidate: {
                "role": "candidate",
                "path": job.candidate_path,
                "classes": job.candidate_classes,
                "names": (),
                "extensions": job.extensions,
            },
        }
        self._both("load", asked, "importing")
        arguments = self._reference.link.ask("init_inputs")
        if arguments.status is not Status.OK:
            raise failure_of("reference", arguments, "calling get_init_inputs")
        command = {"nodes": nodes_to_json(arguments.nodes), "seed": CONSTRUCTION_SEED}
        self._construct = command
        self._both("construct", dict.fromkeys(asked, command), "constructing the model")
        self._contract = contract_of(self._reference)
        if self._contract.accepts:
            self._acceptance = Acceptance(self._reference)
        self._ledger = Ledger(job.options, match_weights(self._candidate, self._reference))

    def _both(self, op: str, fields: dict[CheckedSide, dict[str, Any]], doing: str) -> None:
        """One command on both sides at once; the reference's failure is told first."""
        serials = {side: side.link.send(op, **command) for side, command in fields.items()}
        for side, serial in serials.items():
            reply = side.link.receive(serial)
            assert reply is not None
            if reply.status is not Status.OK:
                raise failure_of(side.link.side, reply, doing, otherwise=Verdict.LOAD_ERROR)

    # --- correctness

    def _check_correctness(self) -> None:
        assert self._ledger is not None
        self._draw_sets()
        self._learn()
        for inputs, expected in self._expect():
            self._sets.append((inputs, expected))
        linted = self._linted = self._lint(self._require_determinism())
        self._learn()
        self._candidate.out_bytes = self._reference.out_bytes
        sets = (*linted.sets, *linted.stress)
        surely = 1 + secrets.randbelow(max(1, len(sets) - 1))
        tf32: Literal["off", "stock"] = "off" if self._job.lint else "stock"
        for index, (inputs, expected) in enumerate(sets):
            # New content at an address that had other: at random, and at least once.
            same_place = index == surely or (index > 0 and bool(secrets.randbits(1)))
            call = self._candidate.call(inputs, tf32=tf32, same_place=same_place)
            check_call(call, expected, self._ledger, may_mutate=self._may_mutate)
            if index == 0:
                self.flags += linted.precision_flags(call, expected)
        if self._contract.buffers:
            self._check_buffers()

    def _check_buffers(self) -> None:
        """Compare what fresh models hold after the same calls in the same order."""
        both = (self._reference, self._candidate)
        self._both("construct", dict.fromkeys(both, self._construct), "constructing the model")
        match_weights(self._candidate, self._reference)
        for inputs, expected in self._sets:
            self._reference.call(inputs, tf32="off")
            call = self._candidate.call(inputs)
            require_same_form(call.reply.nodes, call.reply.tensors, expected)
        require_equal_buffers(self._candidate, self._reference, self._job.options)

    def _lint(self, repeat: SingleCall) -> Linted:
        """The sets with the comparison that this task needs."""
        assert self._ledger is not None
        linter = Linter(
            self._lints,
            self._job.reference_hash,
            self._job.options,
            device=self._device,
            reference=self._reference,
            drawer=self._drawer,
            expect=lambda inputs: self._expected_of(self._reference.call(inputs, tf32="off")),
            acceptance=self._acceptance,
        )
        linted = linter.lint(self._sets, repeat)
        self._sets, self.lint = linted.sets, linted.record
        self.flags += linted.flags
        self._ledger.comparison, self._ledger.oracle = linted.record.comparison, linted.record.oracle
        return linted

    def _learn(self) -> None:
        """Tell both runners of every form that was drawn."""
        for side in (self._reference, self._candidate):
            side.learn(self._drawer.forms)

    def _draw_sets(self) -> None:
        self._drawn: list[InputSet] = []
        wanted = self._job.options.correctness_sets
        room = min(_SETS_BYTES, self._device.free_bytes() // _MEMORY_SHARE)
        used = 0
        while len(self._drawn) < wanted:
            drawn = self._drawer.draw()
            if not isinstance(drawn, InputSet):
                raise failure_of("reference", drawn, "calling get_inputs")
            self._drawn.append(drawn)
            used += drawn.form.size
            # Enough for the comparison asked for, or as much as memory bears: at least one, whatever its size.
            enough = len(self._drawn) >= self._job.options.correctness_sets
            if used + drawn.form.size > (room if enough else self._device.free_bytes() // _MEMORY_SHARE):
                break
        self._drawer.close()

    def _expect(self) -> Sequence[tuple[InputSet, Expected]]:
        """The reference's outputs for every set, with TF32 off."""
        found = []
        for inputs in self._drawn:
            call = self._reference.call(inputs, tf32="off")
            found.append((inputs, self._expected_of(call)))
        return found

    def _expected_of(self, call: SingleCall) -> Expected:
        structure = structure_of(call.reply.nodes)
        if self._acceptance is not None:
            self._acceptance.nodes = call.reply.nodes
        problem = require_tensors(structure)
        if problem is not None:
            raise Failed(Verdict.REFERENCE_ERROR, f"the reference's output cannot be judged: {problem}")
        self._may_mutate = tuple({*self._may_mutate, *call.mutated})
        return Expected(structure, tuple(output.clone() for output in call.outputs))

    def _require_determinism(self) -> SingleCall:
        """A reference that does not agree with itself cannot judge anybody. Returns its second call on the first set."""
        inputs, expected = self._sets[0]
        again = Ledger(self._job.options, "none")
        call = self._reference.call(inputs, tf32="off")
        try:
            require_same_form(call.reply.nodes, call.reply.tensors, expected)
            if self._acceptance is None:
                again.compare(call.outputs, expected)
        except Failed as difference:
            raise Failed(
                Verdict.REFERENCE_ERROR,
                "the reference gives another answer for the same inputs (is dropout, or other randomness, on in "
                "forward? A task with random answers says with accept_output which are right): "
                f"{difference.message}",
            ) from difference
        return call

    # --- timing

    def _time(self) -> None:
        budget_s = min(_TIMING_MAX_S, _TIMING_SHARE * self._job.exec_timeout_s)
        samples = self._samples = self._sample(budget_s)
        self.phases_s["null"] = samples.null_s
        candidate = interval_ms(samples.candidate, calls=samples.candidate_calls)
        reference = interval_ms(samples.reference, calls=samples.reference_calls)
        uncertainty_ms = 1e3 * samples.uncertainty_s
        alone, charged_ms = _alone_of(samples)
        charged = interval_at_least(candidate, charged_ms or 0.0)
        speedup = speedup_of(charged, reference, uncertainty_ms=uncertainty_ms)
        events = None
        if samples.candidate_events:
            events = EventsMs(
                candidate=interval_ms(samples.candidate_events).median,
                reference=interval_ms(samples.reference_events).median,
            )
        self.timing = Timing(
            device=self._device.kind,
            batch="burst" if samples.batch == "burst" else "single",
            candidate_ms=candidate,
            reference_ms=reference,
            events_ms=events,
            baseline=self._job.options.baseline,
            uncertainty_ms=uncertainty_ms,
            speedup=speedup.estimate,
            speedup_lower=speedup.lower,
            noise=noise_of(samples.candidate),
            alone_ms=alone,
            charged_ms=charged_ms,
        )
        self.flags += timing_flags(self.timing, samples.busy_s)
        self.suspicion = self._too_fast(median(samples.candidate), samples.calls_at_once)

    def _time_reference_again(self) -> None:
        """Time the reference without the candidate, which can have left work that slowed it; the faster time counts."""
        assert self.timing is not None
        assert self._samples is not None
        self._candidate.link.kill()
        samples, timing = self._samples, self.timing
        if self._clock is not None:
            again = self._clock.reference_again(self._reference, samples.reference_at_once)
        else:
            again = reference_singles(self._reference, self._sets[0][0], null_s=samples.null_s)
        after = interval_ms(again, calls=len(again) * samples.reference_at_once)
        if not is_slowed(timing.reference_ms, after):
            return
        charged = interval_at_least(timing.candidate_ms, timing.charged_ms or 0.0)
        speedup = speedup_of(charged, after, uncertainty_ms=timing.uncertainty_ms)
        self.timing = msgspec.structs.replace(
            timing, reference_ms=after, speedup=speedup.estimate, speedup_lower=speedup.lower
        )
        self.flags.append(reference_slowed(timing.reference_ms, after))

    def _too_fast(self, seconds: float, calls: int) -> str:
        """The evidence, if that is less than moving what must be moved takes; else empty."""
        bandwidth, cache_bytes = self._device.bandwidth, self._device.cache_bytes
        if bandwidth is None or len(self._sets) < _SETS_TO_PERTURB or self._acceptance is not None:
            return ""  # of random answers nobody can say what they depend on
        (inputs, expected), (other, _) = self._sets[:2]
        written = sum(tensor.numel() * tensor.element_size() for tensor in expected.tensors)
        every = floor_of(
            written + inputs.form.size, calls=calls, cache_bytes=cache_bytes, bandwidth=bandwidth
        )
        if seconds >= every.seconds or inputs.form_id != other.form_id:
            return ""
        moved = bytes_that_matter(
            lambda changed: self._reference.call(changed, tf32="off").outputs, inputs, other, expected
        )
        floor = floor_of(moved, calls=calls, cache_bytes=cache_bytes, bandwidth=bandwidth)
        return floor.evidence(seconds) if seconds < floor.seconds else ""

    def _sample(self, budget_s: float) -> Samples:
        assert self._ledger is not None
        assert self._linted is not None
        supply = Supply(
            self._drawer,
            self._reference,
            like=self._sets[0],
            learn=self._learn,
            expect=self._expected_of,
            comparison_of=self._linted.comparison_of,
        )
        # At a profile and at a trace the candidate is still needed.
        last = not (self._job.options.profile or asks_for_trace(self._job))
        calls = self._job.options.timed_calls
        if self._device.bursts and len({inputs.form_id for inputs, _ in self._sets}) == 1:
            clock = self._clock = BurstClock(
                self._device,
                supply,
                self._ledger,
                seen=self._sets,
                may_mutate=self._may_mutate,
                quiet_at_first=self._quiet_at_first,
            )
            try:
                return clock.run(self._candidate, self._reference, calls=calls, budget_s=budget_s, last=last)
            except NotEnqueueable:
                self._clock = None  # somebody synchronises inside forward: both sides are timed call by call
        return time_singles(
            self._candidate,
            self._reference,
            supply,
            self._ledger,
            device=self._device,
            calls=calls,
            budget_s=budget_s,
            may_mutate=self._may_mutate,
            last=last,
        )

    def _take_profile(self) -> None:
        """Profiler tables of one call of each side, for people: told by the runners, believed by nobody."""
        inputs = self._sets[0][0]
        sides = (self._reference, self._candidate)
        for side in sides:
            side.call(inputs)
            # The profiled call finds the set at the arena's start; the one before had it somewhere else.
            side.memory(IN_ARENA)[: inputs.form.size].copy_(inputs.master)
        self._device.synchronize()
        for side in sides:
            side.link.budget_s = max(side.link.budget_s, side.link.spent_s + _PROFILE_S)
        try:
            # At the same time: nothing is timed here, and the first use of a profiler takes seconds.
            items = [[inputs.form_id, 0]]
            serials = [side.link.send("profile", items=items, arena=IN_ARENA, null=False) for side in sides]
            replies = [side.link.receive(serial) for side, serial in zip(sides, serials, strict=True)]
        except (OutOfBudget, RunnerGone):
            return  # a table that cannot be had changes no verdict
        tables = [text_of(reply.text) if reply and reply.status is Status.OK else "" for reply in replies]
        self.profile = Profile(torch=tables[0], cuda=tables[1])

    def _take_trace(self) -> None:
        """See what ran, in a last call."""

        def check(call: SingleCall, expected: Expected) -> None:
            ledger = Ledger(self._job.options, "none")  # what is compared here counts for nothing
            check_call(call, expected, ledger, may_mutate=self._may_mutate)

        self.provenance = provenance_of(self._job, self._candidate, self._sets, check)

    def device_state(self) -> dict[str, str | float | None]:
        """The device's clock, temperature and throttling right now."""
        return self._device.state()

    @staticmethod
    def empty_cache() -> None:
        """Give unused device memory back, so that the next check's runners can have it."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def _alone_of(samples: Samples) -> tuple[AloneMs | None, float | None]:
    """What single calls took, and what the candidate's calls are charged with if enqueued ones are much faster."""
    if not samples.candidate_alone:
        return None, None
    alone = AloneMs(
        candidate=1e3 * median(samples.candidate_alone), reference=1e3 * median(samples.reference_alone)
    )
    enqueued_s = median(samples.candidate)
    least_s = charged_s(
        samples.candidate_alone,
        samples.reference_alone,
        candidate_enqueued_s=enqueued_s,
        reference_enqueued_s=median(samples.reference),
    )
    return alone, 1e3 * least_s if least_s > _MERGED * enqueued_s else None
