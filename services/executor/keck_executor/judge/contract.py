"""What a task declares of its own answers, where equality with the reference's is not what is asked for.

A reference may define two names beside ``Model``:

* ``accept_output(output, *inputs)``: for answers that are random. It is asked about every output in the place of the
  comparison, and returns True, or False, or in words what is wrong. It runs where the reference runs.
* ``compare_buffers = True``: what `forward` leaves in the model's buffers (the running statistics of BatchNorm) is part
  of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from keck.messages import Options
from keck.verdict import Verdict
from keck_executor.judge.compare import compare, tolerance_for
from keck_executor.judge.failure import Failed, failure_of, text_of
from keck_executor.judge.inputs import InputSet, checked_view
from keck_executor.judge.link import BrokenProtocol
from keck_executor.judge.side import STATE_ARENA, CheckedSide
from keck_executor.runner.wire import Node, ProtocolError, Reply, Status

__all__ = ["Acceptance", "Contract", "contract_of", "require_equal_buffers"]

_OBJECTION = 200


@dataclass(frozen=True, slots=True)
class Contract:
    """What the reference declares."""

    accepts: bool
    """It has an ``accept_output``."""
    buffers: bool
    """It has ``compare_buffers = True``."""


def contract_of(reference: CheckedSide) -> Contract:
    """Ask the reference's runner, once its module is loaded."""
    accepts, buffers = reference.link.must("contract").numbers
    return Contract(accepts=bool(accepts), buffers=bool(buffers))


class Acceptance:
    """The task's ``accept_output``, asked by way of the reference's runner."""

    def __init__(self, reference: CheckedSide) -> None:
        self._reference = reference
        self.nodes: tuple[Node, ...] = ()
        """The structure of an output of the reference's; every other one has been found to have it too."""

    def objection(self, inputs: InputSet, outputs: Sequence[torch.Tensor]) -> str:
        """What the task has against these outputs for these inputs; empty: nothing.

        Raises:
            Failed: ``accept_output`` raised, or returned something else than True, False or text.
        """
        reply = self._reference.accept(inputs, self.nodes, outputs)
        if reply.status is not Status.OK:
            raise failure_of("reference", reply, "calling accept_output")
        if reply.numbers[0]:
            return ""
        told = text_of(reply.text).strip()[:_OBJECTION]
        return told or "it returned False"


def require_equal_buffers(candidate: CheckedSide, reference: CheckedSide, options: Options) -> None:
    """Compare what both models hold in their buffers, by name, shape, dtype and, within the tolerance, value.

    Raises:
        Failed: they differ.
        BrokenProtocol: a runner described them impossibly.
    """
    theirs, wanted = _buffers(reference)
    ours, given = _buffers(candidate)
    if ours.text != theirs.text:
        raise Failed(
            Verdict.WRONG_RESULT,
            "the model's buffers have other names, shapes or dtypes than the reference's, and the task compares them",
            correct=False,
        )
    for index, (one, other) in enumerate(zip(given, wanted, strict=True)):
        found = compare(one, other, tolerance_for(other.dtype, options))
        if found.mismatched:
            raise Failed(
                Verdict.WRONG_RESULT,
                f"after the same calls, {found.mismatched} of {found.total} values of buffer {index} (by name) are not "
                f"the reference's (max absolute error {found.max_abs:.3g}), and the task compares them",
                correct=False,
            )


def _buffers(side: CheckedSide) -> tuple[Reply, list[torch.Tensor]]:
    size = int(side.link.must("buffers", arena=None).numbers[1])
    side.ensure(STATE_ARENA, max(1, size))
    reply = side.link.must("buffers", arena=STATE_ARENA)
    side.link.freeze()
    memory = side.memory(STATE_ARENA)
    try:
        return reply, [checked_view(memory, record, dense=True) for record in reply.tensors]
    except ProtocolError as error:
        raise BrokenProtocol(side.link.side, error) from error
