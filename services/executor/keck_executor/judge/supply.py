"""Input sets that nobody has been called with yet, each with the reference's answer: what timed calls are made of.

A candidate can recognise an input by its content and answer from memory, however well addresses and kinds of calls are
mixed. So a set is good for one timed call: no content comes twice while a clock runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from keck_executor.judge.failure import failure_of
from keck_executor.judge.inputs import InputDrawer, InputSet, checked_view
from keck_executor.judge.link import BrokenProtocol
from keck_executor.judge.lint import Comparison
from keck_executor.judge.outputs import Expected, JudgedSet, structure_of
from keck_executor.judge.side import IN_ARENA, JITTER_SLOTS, OUT_ARENA, CheckedSide, SingleCall
from keck_executor.runner.wire import ALIGNMENT, MAX_TENSORS, ProtocolError, Reply, Status, align

__all__ = ["Batch", "Supply"]

_MEMORY_SHARE = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Fresh sets of one form."""

    staged: torch.Tensor
    """Bytes: the judge's masters, one in each slot, as an arena takes them."""
    sets: list[JudgedSet]
    """Inputs and answers as they are."""
    comparison: Comparison
    """What more is known of how those answers are compared."""


class Supply:
    """Draws sets with the reference, by many at once.

    Args:
        drawer: of the reference's inputs.
        reference: its runner.
        like: a set whose form the others are to have; where the law has several, those of other forms are left out.
        learn: tells both runners of a form that was not seen before.
        expect: what one call of the reference means.
        comparison_of: the comparison that the task needs, for sets that belong together.
    """

    def __init__(
        self,
        drawer: InputDrawer,
        reference: CheckedSide,
        *,
        like: JudgedSet,
        learn: Callable[[], None],
        expect: Callable[[SingleCall], Expected],
        comparison_of: Callable[[Sequence[JudgedSet]], Comparison],
    ) -> None:
        self._drawer = drawer
        self._reference = reference
        self._like, self._expected = like
        self._learn = learn
        self._expect = expect
        self._comparison_of = comparison_of
        self.slot = align(max(1, self._like.form.size))
        """Bytes from one set to the next."""
        self.out_slot = max(
            ALIGNMENT, sum(align(t.numel() * t.element_size()) for t in self._expected.tensors)
        )
        """Bytes of arena for one call's outputs."""
        self._by_records = max(1, MAX_TENSORS // max(1, len(self._expected.tensors)))

    @property
    def outputs(self) -> int:
        """Tensors that a call returns."""
        return len(self._expected.tensors)

    def most(self) -> int:
        """Sets that a batch may have: bounded by memory, and by what a runner's reply can describe."""
        by_memory = self._reference.device.free_bytes() // _MEMORY_SHARE // max(self.slot, self.out_slot)
        return max(1, min(by_memory, self._by_records))

    def batch(self, count: int) -> Batch:
        """Up to `count` sets, at least one.

        Raises:
            Failed: the reference did.
            BrokenProtocol: it described its outputs impossibly.
        """
        side, form = self._reference, self._like.form
        side.ensure(IN_ARENA, count * self.slot + JITTER_SLOTS * ALIGNMENT)
        side.ensure(OUT_ARENA, max(side.out_bytes, count * self.out_slot))
        drawn = self._drawer.draw_more(self._like.form_id, count, arena=IN_ARENA, slot=self.slot)
        if drawn == 0:
            return self._single()
        staged = side.memory(IN_ARENA)[: drawn * self.slot].clone()
        side.device.synchronize()
        inputs = [
            InputSet(self._like.form_id, form, staged[i * self.slot : i * self.slot + form.size])
            for i in range(drawn)
        ]
        items = [[self._like.form_id, i * self.slot] for i in range(drawn)]
        reply = side.link.ask(
            "calls", items=items, arena=IN_ARENA, out=OUT_ARENA, slot=self.out_slot, tf32="off", null=False
        )
        if reply.status not in (Status.OK, Status.NO_ROOM):
            raise failure_of("reference", reply, "calling forward")
        expected = self._answers(reply, drawn)
        if expected is None:
            expected = [self._expect(side.call(each, tf32="off")) for each in inputs]
        side.link.freeze()
        return self.together(staged, list(zip(inputs, expected, strict=True)))

    def _answers(self, reply: Reply, count: int) -> list[Expected] | None:
        """One for each call; None where they are not all alike, and must be asked for one by one."""
        structure, per_call = structure_of(reply.nodes), self.outputs
        alike = structure == self._expected.structure and len(reply.tensors) == count * per_call
        if reply.status is not Status.OK or not alike:
            return None
        told = self._reference.memory(OUT_ARENA)[: count * self.out_slot].clone()
        self._reference.device.synchronize()
        try:
            tensors = [checked_view(told, record, dense=True) for record in reply.tensors]
        except ProtocolError as error:
            raise BrokenProtocol("reference", error) from error
        return [Expected(structure, tuple(tensors[i * per_call : (i + 1) * per_call])) for i in range(count)]

    def _single(self) -> Batch:
        """One set of whatever form comes."""
        drawn = self._drawer.draw()
        self._drawer.close()
        if not isinstance(drawn, InputSet):
            raise failure_of("reference", drawn, "calling get_inputs")
        self._learn()
        expected = self._expect(self._reference.call(drawn, tf32="off"))
        return self.together(drawn.master, [(drawn, expected)])

    def together(self, staged: torch.Tensor, sets: list[JudgedSet]) -> Batch:
        """Sets that were drawn already, laid out, as a batch."""
        return Batch(staged, sets, self._comparison_of(sets))
