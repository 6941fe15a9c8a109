"""Whether what `forward` returned is what the reference returned: structure, dtype, shape, values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from keck.messages import Correctness, Options, Tolerance
from keck.verdict import Verdict
from keck_executor.judge.compare import CHUNK, Difference, compare, rows_equal, tolerance_for
from keck_executor.judge.failure import Failed
from keck_executor.judge.inputs import InputSet
from keck_executor.judge.null_answers import Null, is_nearer
from keck_executor.judge.scaled import Allowance, compare_scaled
from keck_executor.runner.tree import dtype_name
from keck_executor.runner.wire import Node, NodeKind, TensorRecord

__all__ = ["Expected", "JudgedSet", "Ledger", "require_same_form", "require_tensors", "structure_of"]

_WORDS = {
    NodeKind.NONE: "None", NodeKind.TENSOR: "a tensor", NodeKind.INT: "an int", NodeKind.FLOAT: "a float",
    NodeKind.BOOL: "a bool", NodeKind.STRING: "a string",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference returned for one input set."""

    structure: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    """Copies of the judge's own."""
    allowances: tuple[Allowance | None, ...] = ()
    """For each output, where the scale-aware comparison has taken over; empty: for none."""
    nulls: tuple[tuple[Null, ...], ...] = ()
    """For each output, answers that compute nothing, pass the tolerance, and are not the right one; empty: none."""
    objection: Callable[[Sequence[torch.Tensor]], str] | None = None
    """Of a task that decides itself what it accepts: what it has against an output, or nothing."""


JudgedSet = tuple[InputSet, Expected]
"""Inputs, and what the reference returns for them."""


def structure_of(nodes: Sequence[Node]) -> tuple[str, ...]:
    """A value's structure in words, list and tuple alike, for comparison and for messages."""
    return tuple(_words(iter(nodes)))


def _words(walk: Iterator[Node]) -> Iterator[str]:
    for node in walk:
        match node.kind:
            case NodeKind.LIST | NodeKind.TUPLE:
                yield f"a sequence of {node.count}"
            case NodeKind.DICT:
                yield f"a dict of {node.count}"
            case NodeKind.STRING:
                yield f"the string {node.text!r}"
            case _:
                yield _WORDS[node.kind]


def require_tensors(structure: Sequence[str]) -> str | None:
    """Why a reference's output cannot be judged against, or None."""
    for word in structure:
        if word in ("an int", "a float", "a bool", "None"):
            return f"it holds {word}; tensors, and lists, tuples and dicts of tensors can be compared"
    return None if "a tensor" in structure else "it holds no tensor"


def require_same_form(nodes: Sequence[Node], records: Sequence[TensorRecord], expected: Expected) -> None:
    """Check structure, shapes and dtypes, exactly: nothing is broadcast or converted.

    Raises:
        Failed: they differ.
    """
    structure = structure_of(nodes)
    if structure != expected.structure or len(records) != len(expected.tensors):
        told, wanted = (", ".join(words[:8]) or "nothing" for words in (structure, expected.structure))
        raise Failed(
            Verdict.SHAPE_MISMATCH, f"forward returned {told}; the reference returns {wanted}", correct=False
        )
    for index, (record, tensor) in enumerate(zip(records, expected.tensors, strict=True)):
        where = f"output {index}" if len(records) > 1 else "the output"
        if tuple(record.shape) != tuple(tensor.shape):
            raise Failed(
                Verdict.SHAPE_MISMATCH,
                f"{where} has shape {list(record.shape)}; the reference's has {list(tensor.shape)}",
                correct=False,
            )
        wanted = dtype_name(tensor.dtype)
        if record.dtype != wanted:
            raise Failed(
                Verdict.DTYPE_MISMATCH,
                f"{where} is {record.dtype}; the reference's is {wanted}",
                correct=False,
            )


@dataclass(slots=True)
class Ledger:
    """Everything compared so far in a check."""

    options: Options
    weights: str
    difference: Difference = field(default_factory=Difference)
    calls: int = 0
    tolerance: Tolerance = field(default_factory=lambda: Tolerance(atol=0.0, rtol=0.0))
    comparison: Literal["tolerance", "scaled", "accept_output"] = "tolerance"
    oracle: Literal["fp64", "fp32"] = "fp32"

    def compare(self, outputs: Sequence[torch.Tensor], expected: Expected) -> None:
        """Compare the outputs of one call.

        Raises:
            Failed: any element is outside the tolerance, or the output is nearer to a null answer than to the right
                one.
        """
        self.calls += 1
        if expected.objection is not None:
            self.difference += Difference(total=sum(output.numel() for output in outputs))
            objection = expected.objection(outputs)
            if objection:
                raise Failed(
                    Verdict.WRONG_RESULT,
                    f"the task's accept_output refuses the output: {objection}",
                    correct=False,
                )
            return
        for index, (output, wanted) in enumerate(zip(outputs, expected.tensors, strict=True)):
            self.tolerance = tolerance_for(wanted.dtype, self.options)
            allowance = expected.allowances[index] if expected.allowances else None
            if allowance is None:
                found = compare(output, wanted, self.tolerance)
            else:
                found = compare_scaled(output, wanted, allowance)
            self.difference += found
            where = f" in output {index}" if len(outputs) > 1 else ""
            if found.mismatched:
                scale = "|reference|" if allowance is None else "|reference|, in units of the output's spread"
                raise Failed(
                    Verdict.WRONG_RESULT,
                    f"{found.mismatched} of {found.total} values{where} are wrong (max absolute error "
                    f"{found.max_abs:.3g}, tolerance {self.tolerance.atol:g} + {self.tolerance.rtol:g} x {scale})",
                    correct=False,
                )
            for null in expected.nulls[index] if expected.nulls and found.max_abs else ():
                if is_nearer(null, output, than=wanted):
                    raise Failed(
                        Verdict.WRONG_RESULT,
                        f"the values{where} are nearer to an answer that computes nothing ({null.name}) than to the "
                        "reference's",
                        correct=False,
                    )

    def compare_alike(
        self, calls: Sequence[Sequence[torch.Tensor]], expected: Sequence[Expected], *, plain: bool
    ) -> list[int]:
        """Compare many calls at once, as far as that decides: a hundred small outputs cost little more than one.

        Args:
            calls: the outputs of each, in the form that is expected.
            expected: for each call; all of one form.
            plain: the tolerance alone decides: no allowances, no null answers.

        Returns:
            the calls that must be compared one by one, because something is wrong with one of them, or because more
            than the tolerance decides about what is not equal to the last bit.
        """
        size = sum(tensor.numel() for tensor in expected[0].tensors)
        at_once = max(1, CHUNK // max(1, size))
        left: list[int] = []
        for start in range(0, len(calls), at_once):
            these = range(start, min(start + at_once, len(calls)))
            left += self._alike(calls, expected, these, plain=plain)
        return left

    def _alike(
        self,
        calls: Sequence[Sequence[torch.Tensor]],
        expected: Sequence[Expected],
        these: Sequence[int],
        *,
        plain: bool,
    ) -> list[int]:
        found, unequal = Difference(), set[int]()
        for index, first in enumerate(expected[0].tensors):
            self.tolerance = tolerance_for(first.dtype, self.options)
            if not first.numel():
                continue
            actual = _stacked([calls[i][index] for i in these])
            wanted = _stacked([expected[i].tensors[index] for i in these])
            equal = rows_equal(actual, wanted)
            unequal |= {i for i, same in zip(these, equal, strict=True) if not same}
            if plain and not all(equal):
                found += compare(actual, wanted, self.tolerance)
        if found.mismatched:
            return list(these)
        settled = len(these) if plain else len(these) - len(unequal)
        self.calls += settled
        size = sum(tensor.numel() for tensor in expected[0].tensors)
        self.difference += Difference(found.max_abs, found.max_rel, 0, settled * size)
        return [] if plain else sorted(unequal)

    def record(self) -> Correctness:
        """The ledger as the verdict shows it."""
        return Correctness(
            calls_checked=self.calls,
            max_abs_err=self.difference.max_abs,
            max_rel_err=self.difference.max_rel,
            mismatched=self.difference.mismatched,
            total=self.difference.total,
            tolerance=self.tolerance,
            weights=self.weights,  # type: ignore[arg-type]  # one of three words, set by the session
            comparison=self.comparison,
            oracle=self.oracle,
        )


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """As rows of one; of a single tensor, which may be large, without a copy."""
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)
