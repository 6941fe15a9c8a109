from __future__ import annotations

import torch

from keck.messages import Lint
from keck_executor.judge.input_changes import input_tensors, moved, rounded
from keck_executor.judge.inputs import Form, InputSet
from keck_executor.judge.lint import Findings, Lints
from keck_executor.runner.wire import TensorRecord

NOTHING = Findings(
    Lint(
        weak=False,
        comparison="tolerance",
        answers=[],
        repeat_max_abs_err=0.0,
        stress_inputs=None,
        oracle="fp32",
        own_rms_err=None,
        sets=1,
    ),
    (),
    (),
)


def inputs_of(*tensors: torch.Tensor) -> InputSet:
    """An input set as the judge has it."""
    master = torch.cat([tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors])
    records, offset = [], 0
    for tensor in tensors:
        dtype, nbytes = str(tensor.dtype).removeprefix("torch."), tensor.numel() * tensor.element_size()
        strides = torch.empty(tensor.shape).stride()
        records.append(TensorRecord(dtype, tuple(tensor.shape), tuple(strides), offset, nbytes))
        offset += nbytes
    return InputSet(0, Form((), tuple(records), master.numel()), master)


def test_the_least_recently_used_findings_are_forgotten_first() -> None:
    lints = Lints(limit=2)
    lints.put("a", NOTHING)
    lints.put("b", NOTHING)
    assert lints.get("a") is NOTHING
    lints.put("c", NOTHING)
    assert lints.get("b") is None
    assert lints.get("a") is lints.get("c") is NOTHING


def test_operands_are_rounded_in_a_copy_and_whole_numbers_are_left_alone() -> None:
    wide, narrow, whole = torch.randn(4, 300), torch.randn(8).half(), torch.arange(5)
    given = inputs_of(wide, narrow, whole)
    changed = rounded(given)
    assert changed is not None
    a, b, c = input_tensors(changed)
    assert torch.equal(a, wide.bfloat16().float())
    assert torch.equal(b, narrow)
    assert torch.equal(c, whole)
    assert torch.equal(input_tensors(given)[0], wide)


def test_there_is_nothing_to_round_in_narrow_and_whole_inputs() -> None:
    assert rounded(inputs_of(torch.randn(8).bfloat16(), torch.arange(5))) is None


def test_inputs_are_moved_to_a_neighbour_and_no_further() -> None:
    wide, whole = torch.randn(4, 300), torch.arange(5)
    a, b = input_tensors(moved(inputs_of(wide, whole)))
    assert torch.equal(b, whole)
    assert not torch.equal(a, wide)
    assert ((a - wide).abs() <= 2 * torch.finfo(torch.float32).eps * wide.abs()).all()
    assert (a > wide).any()
    assert (a < wide).any()
