"""Timing call by call: for the CPU, and for whatever synchronises inside `forward`."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from keck.verdict import Verdict
from keck_executor.devices import Device
from keck_executor.judge.failure import Failed
from keck_executor.judge.inputs import InputSet
from keck_executor.judge.link import BrokenProtocol
from keck_executor.judge.outputs import Expected, Ledger, require_same_form
from keck_executor.judge.side import CheckedSide, SingleCall
from keck_executor.judge.stats import spread
from keck_executor.runner.wire import Status

__all__ = ["Samples", "check_call", "time_singles"]

_NULL_CALLS = 15
_NULL_SHARE = 0.3
_MIN_PAIRS = 5


@dataclass(slots=True)
class Samples:
    """Seconds per call of both sides, and what is known of the clock that took them."""

    batch: str
    candidate: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    candidate_calls: int = 0
    reference_calls: int = 0
    candidate_events: list[float] = field(default_factory=list)
    reference_events: list[float] = field(default_factory=list)
    uncertainty_s: float = 0.0


def check_call(call: SingleCall, expected: Expected, ledger: Ledger, *, may_mutate: Sequence[int]) -> None:
    """Judge one call of the candidate.

    Raises:
        Failed: the outputs differ from the reference's, an input was changed that the reference leaves alone, or
            the outputs came about after the clock had stopped.
    """
    require_same_form(call.reply.nodes, call.reply.tensors, expected)
    if call.reply.status is not Status.OK:
        raise BrokenProtocol("candidate", "outputs of the right form that do not fit")
    changed = [index for index in call.mutated if index not in may_mutate]
    ledger.compare(call.outputs, expected)
    if not all(each.still_holds() for each in call.committed):
        raise Failed(
            Verdict.HACK_DETECTED,
            "outputs changed after forward had returned and the device was said to be idle: work was still running",
            correct=False,
        )
    if changed:
        raise Failed(
            Verdict.WRONG_RESULT,
            f"forward changed its input {changed[0]} in place; the reference leaves it as it is",
            correct=False,
        )


def time_singles(
    candidate: CheckedSide,
    reference: CheckedSide,
    sets: Sequence[tuple[InputSet, Expected]],
    ledger: Ledger,
    *,
    fresh: Callable[[], tuple[InputSet, Expected]],
    device: Device,
    calls: int,
    budget_s: float,
    may_mutate: Sequence[int],
) -> Samples:
    """Alternate calls of both sides (ABBA) over the same inputs until there are enough, or time is up.

    Each pair of calls has inputs that the candidate has not seen: answers kept from earlier calls are of no use,
    however they are found again. Only when time is up before there are enough pairs to speak of are `sets` used
    again.

    The cost of the protocol itself, measured by null calls of the reference's runner, is taken off both sides.
    """
    order = random.Random(secrets.randbits(64))
    nulls = _null_calls(
        reference, [inputs for inputs, _ in sets], until=time.monotonic() + _NULL_SHARE * budget_s
    )
    raw_candidate: list[float] = []
    raw_reference: list[float] = []
    until = time.monotonic() + budget_s
    while len(raw_candidate) < calls and (time.monotonic() < until or len(raw_candidate) < _MIN_PAIRS):
        inputs, expected = fresh() if time.monotonic() < until else order.choice(sets)
        first_is_reference = len(raw_candidate) % 2 == 0
        if first_is_reference:
            raw_reference.append(_reference_call(reference, inputs))
        call = candidate.call(inputs, flush=True)
        check_call(call, expected, ledger, may_mutate=may_mutate)
        raw_candidate.append(call.seconds)
        if not first_is_reference:
            raw_reference.append(_reference_call(reference, inputs))
        if len(raw_candidate) % 5 == 0:
            nulls.append(_reference_call(reference, inputs, null=True))
    constant = median(nulls)
    return Samples(
        batch="single",
        candidate=[max(0.0, seconds - constant) for seconds in raw_candidate],
        reference=[max(0.0, seconds - constant) for seconds in raw_reference],
        candidate_calls=len(raw_candidate),
        reference_calls=len(raw_reference),
        uncertainty_s=max(device.edge_s, spread(nulls)),
    )


def _null_calls(reference: CheckedSide, sets: Sequence[InputSet], *, until: float) -> list[float]:
    nulls: list[float] = []
    while len(nulls) < _MIN_PAIRS or (len(nulls) < _NULL_CALLS and time.monotonic() < until):
        nulls.append(_reference_call(reference, sets[len(nulls) % len(sets)], null=True))
    return nulls


def _reference_call(reference: CheckedSide, inputs: InputSet, *, null: bool = False) -> float:
    return reference.call(inputs, null=null, flush=True).seconds
