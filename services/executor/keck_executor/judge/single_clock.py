"""Timing call by call: for the CPU, and for whatever synchronises inside `forward`."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from keck.verdict import Verdict
from keck_executor.devices import Device
from keck_executor.judge.failure import Failed
from keck_executor.judge.inputs import InputSet
from keck_executor.judge.link import BrokenProtocol
from keck_executor.judge.outputs import Expected, JudgedSet, Ledger, require_same_form
from keck_executor.judge.side import CheckedSide, SingleCall
from keck_executor.judge.stats import spread
from keck_executor.judge.supply import Supply
from keck_executor.runner.wire import Status

__all__ = ["AGAIN", "Samples", "check_call", "reference_singles", "time_singles"]

_NULL_CALLS = 15
_NULL_SHARE = 0.3
_MIN_PAIRS = 5
_AT_ONCE = 8
AGAIN = 7
"""Measurements of the reference once the candidate is gone."""
_LAST_AFTER = 3


@dataclass(slots=True)
class Samples:
    """Seconds per call of both sides, and what is known of the clock that took them."""

    batch: str
    candidate: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    calls_at_once: int = 1
    """Of the candidate, in one timed stretch."""
    reference_at_once: int = 1
    candidate_calls: int = 0
    reference_calls: int = 0
    candidate_events: list[float] = field(default_factory=list)
    reference_events: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    """For each burst of the candidate: how late the judge's own work was before it."""
    uncertainty_s: float = 0.0
    null_s: float = 0.0
    """What was subtracted from each stretch: the protocol without any `forward`."""
    candidate_alone: list[float] = field(default_factory=list)
    reference_alone: list[float] = field(default_factory=list)
    """Of calls that were not enqueued with others, where that was measured."""


def check_call(call: SingleCall, expected: Expected, ledger: Ledger, *, may_mutate: Sequence[int]) -> None:
    """Judge one call of the candidate.

    Raises:
        Failed: the outputs differ from the reference's, or an input was changed that the reference leaves alone.
    """
    require_same_form(call.reply.nodes, call.reply.tensors, expected)
    if call.reply.status is not Status.OK:
        raise BrokenProtocol("candidate", "outputs of the right form that do not fit")
    changed = [index for index in call.mutated if index not in may_mutate]
    ledger.compare(call.outputs, expected)
    if changed:
        raise Failed(
            Verdict.WRONG_RESULT,
            f"forward changed its input {changed[0]} in place; the reference leaves it as it is",
            correct=False,
        )


def time_singles(
    candidate: CheckedSide,
    reference: CheckedSide,
    supply: Supply,
    ledger: Ledger,
    *,
    device: Device,
    calls: int,
    budget_s: float,
    may_mutate: Sequence[int],
    last: bool,
) -> Samples:
    """Alternate calls of both sides (ABBA), each pair over a fresh set, until there are enough, or time is up.

    The cost of the protocol itself, measured by null calls of the reference's runner, is taken off both sides.

    Args:
        candidate, reference: the sides.
        supply: of input sets.
        ledger: takes what was compared.
        device: where.
        calls: pairs, if there is time for them.
        budget_s: seconds; five pairs are taken whatever they last.
        may_mutate: inputs that the reference changes, so that the candidate may.
        last: nobody needs the candidate afterwards: it is ended at the end of a call that it cannot know.

    Raises:
        Failed: an output of any call is wrong.
    """
    order = random.Random(secrets.randbits(64))
    until = time.monotonic() + budget_s
    pairs = _Pairs(supply, min(_AT_ONCE, calls))
    nulls = _null_calls(reference, pairs, until=time.monotonic() + _NULL_SHARE * budget_s)

    def called(
        inputs: InputSet,
        expected: Expected,
        *,
        flush: bool = False,
        same_place: bool = False,
        last: bool = False,
    ) -> float:
        """Seconds of a call of the candidate, whose outputs are right."""
        candidate.out_bytes = max(candidate.out_bytes, reference.out_bytes)
        call = candidate.call(inputs, flush=flush, same_place=same_place, last=last)
        check_call(call, expected, ledger, may_mutate=may_mutate)
        # What waits for a word of the inputs computes while they are laid out: that is no overhead, then.
        return call.seconds + call.laid_out_s

    raw_candidate: list[float] = []
    raw_reference: list[float] = []
    while len(raw_candidate) < calls and (time.monotonic() < until or len(raw_candidate) < _MIN_PAIRS):
        inputs, expected = pairs.next()
        first_is_reference = len(raw_candidate) % 2 == 0
        if first_is_reference:
            raw_reference.append(_reference_call(reference, inputs))
        same_place = bool(order.getrandbits(1))
        raw_candidate.append(called(inputs, expected, flush=True, same_place=same_place))
        if not first_is_reference:
            raw_reference.append(_reference_call(reference, inputs))
        if len(raw_candidate) % 5 == 0:
            nulls.append(_reference_call(reference, inputs, null=True))
    if last:
        for left in reversed(range(order.randint(1, _LAST_AFTER))):
            called(*pairs.next(), last=left == 0)
    constant = median(nulls)
    return Samples(
        batch="single",
        candidate=[max(0.0, seconds - constant) for seconds in raw_candidate],
        reference=[max(0.0, seconds - constant) for seconds in raw_reference],
        candidate_calls=len(raw_candidate),
        reference_calls=len(raw_reference),
        uncertainty_s=max(device.edge_s, spread(nulls)),
        null_s=constant,
    )


def reference_singles(reference: CheckedSide, inputs: InputSet, *, null_s: float) -> list[float]:
    """Seconds of a few calls of the reference, once the candidate is gone with all it left behind."""
    return [max(0.0, _reference_call(reference, inputs) - null_s) for _ in range(AGAIN)]


class _Pairs:
    """Fresh sets one by one, drawn by several at once; few at first, for a slow law must not use the time up."""

    def __init__(self, supply: Supply, most: int) -> None:
        self._supply = supply
        self._most = most
        self._count = 1
        self._waiting: list[JudgedSet] = []

    def next(self) -> JudgedSet:
        if not self._waiting:
            batch = self._supply.batch(min(self._count, self._most, self._supply.most()))
            self._waiting = batch.comparison.sets()
            self._count *= 2
        return self._waiting.pop()


def _null_calls(reference: CheckedSide, pairs: _Pairs, *, until: float) -> list[float]:
    inputs, _ = pairs.next()
    nulls: list[float] = []
    while len(nulls) < _MIN_PAIRS or (len(nulls) < _NULL_CALLS and time.monotonic() < until):
        nulls.append(_reference_call(reference, inputs, null=True))
    return nulls


def _reference_call(reference: CheckedSide, inputs: InputSet, *, null: bool = False) -> float:
    return reference.call(inputs, null=null, flush=True).seconds
