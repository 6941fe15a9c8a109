from __future__ import annotations

import dataclasses

import pytest
import torch

from keck.messages import Options, Tolerance
from keck.verdict import Verdict
from keck_executor.judge import outputs as module
from keck_executor.judge.failure import Failed
from keck_executor.judge.null_answers import Null
from keck_executor.judge.outputs import Expected, Ledger, require_same_form, require_tensors, structure_of
from keck_executor.judge.scaled import allowance_of
from keck_executor.runner.serve import _record
from keck_executor.runner.tree import flatten


def _expected(value: object) -> Expected:
    nodes, tensors = flatten(value, sort_keys=True)
    return Expected(structure_of(nodes), tuple(tensors))


def _require(value: object, expected: object) -> None:
    nodes, tensors = flatten(value, sort_keys=True)
    require_same_form(nodes, [_record(tensor, offset=0) for tensor in tensors], _expected(expected))


ONE, TWO = torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ONE, ONE.t().contiguous().t()),
        ([ONE, TWO], (ONE, TWO)),
        ({"a": ONE, "b": [TWO]}, {"b": (TWO,), "a": ONE}),
    ],
)
def test_the_same_form_is_accepted(value: object, expected: object) -> None:
    _require(value, expected)


@pytest.mark.parametrize(
    ("value", "expected", "verdict", "told"),
    [
        (None, ONE, Verdict.SHAPE_MISMATCH, "forward returned None; the reference returns a tensor"),
        ([ONE], ONE, Verdict.SHAPE_MISMATCH, "a sequence of 1, a tensor; the reference returns a tensor"),
        ((ONE, TWO), (ONE,), Verdict.SHAPE_MISMATCH, "a sequence of 2"),
        ({"b": ONE}, {"a": ONE}, Verdict.SHAPE_MISMATCH, "the string 'b'"),
        ("passed", ONE, Verdict.SHAPE_MISMATCH, "the string 'passed'"),
        (
            torch.zeros(3, 2),
            ONE,
            Verdict.SHAPE_MISMATCH,
            "the output has shape [3, 2]; the reference's has [2, 3]",
        ),
        (torch.zeros(1, 3), ONE, Verdict.SHAPE_MISMATCH, "shape [1, 3]"),
        (torch.zeros(()), torch.zeros(1), Verdict.SHAPE_MISMATCH, "shape []"),
        (ONE.half(), ONE, Verdict.DTYPE_MISMATCH, "the output is float16; the reference's is float32"),
        ((ONE, TWO.int()), (ONE, TWO), Verdict.DTYPE_MISMATCH, "output 1 is int32"),
    ],
)
def test_another_form_is_told(value: object, expected: object, verdict: Verdict, told: str) -> None:
    with pytest.raises(Failed) as failed:
        _require(value, expected)
    assert failed.value.verdict is verdict
    assert told in failed.value.message
    assert failed.value.correct is False


@pytest.mark.parametrize("value", [1, 1.0, True, None, [ONE, 3], "text", []])
def test_a_reference_that_returns_no_tensor_cannot_judge(value: object) -> None:
    assert require_tensors(_expected(value).structure) is not None


def test_a_reference_of_tensors_can() -> None:
    assert require_tensors(_expected({"a": [ONE, TWO]}).structure) is None


def test_a_ledger_adds_up_and_names_the_output_that_is_wrong() -> None:
    ledger = Ledger(Options(), "none")
    expected = _expected((ONE, TWO))
    ledger.compare((ONE, TWO), expected)
    with pytest.raises(Failed, match="2 of 4 values in output 1 are wrong"):
        ledger.compare((ONE, torch.tensor([0, 0, 1, 5])), expected)
    record = ledger.record()
    assert (record.calls_checked, record.mismatched, record.total, record.max_abs_err) == (2, 2, 20, 5.0)


def _many(count: int) -> tuple[list[tuple[torch.Tensor, ...]], list[Expected]]:
    outputs = [(torch.rand(3, 5), torch.arange(4) + i, torch.zeros(0)) for i in range(count)]
    return outputs, [_expected(tuple(each.clone() for each in call)) for call in outputs]


@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_calls_compared_together_count_like_calls_compared_one_by_one(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", at_once * 19)
    calls, expected = _many(7)
    calls[2][0][1, 1] += 0.005
    calls[6][0][0, 0] -= 0.009
    together, alone = (Ledger(Options(tolerance="keck"), "none") for _ in range(2))
    assert together.compare_alike(calls, expected, plain=True) == []
    for outputs, wanted in zip(calls, expected, strict=True):
        alone.compare(outputs, wanted)
    assert together.record() == alone.record()
    assert together.record().max_abs_err > 0.008


@pytest.mark.parametrize("wrong", [0, 3, 6])
@pytest.mark.parametrize("output", [0, 1])
def test_one_wrong_call_of_many_is_left_to_be_told(wrong: int, output: int) -> None:
    calls, expected = _many(7)
    calls[wrong][output].view(-1)[-1] += 1
    ledger = Ledger(Options(), "none")
    left = ledger.compare_alike(calls, expected, plain=True)
    assert wrong in left
    for i in set(left) - {wrong}:
        ledger.compare(calls[i], expected[i])
    with pytest.raises(Failed, match=f"in output {output} are wrong"):
        ledger.compare(calls[wrong], expected[wrong])


def test_what_more_than_the_tolerance_decides_about_is_left_unless_it_is_equal() -> None:
    calls, expected = _many(7)
    calls[4][0][2, 2] += 1e-4
    ledger = Ledger(Options(), "none")
    assert ledger.compare_alike(calls, expected, plain=False) == [4]
    assert ledger.calls == 6


def test_calls_too_large_to_be_stacked_are_compared_one_by_one_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    calls, expected = _many(3)
    ledger = Ledger(Options(), "none")
    assert ledger.compare_alike(calls, expected, plain=False) == []
    assert ledger.calls == 3
    calls[2][1][0] += 1
    assert ledger.compare_alike(calls, expected, plain=True) == [2]


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_special_values_are_compared_together_as_they_are_alone(special: float) -> None:
    calls, expected = _many(3)
    calls[1][0][0, 0] = special
    assert Ledger(Options(), "none").compare_alike(calls, expected, plain=True) == [0, 1, 2]
    expected[1].tensors[0][0, 0] = special
    assert Ledger(Options(), "none").compare_alike(calls, expected, plain=True) == []


def test_a_ledger_compares_by_scale_where_the_lint_said_so() -> None:
    softmax = torch.softmax(torch.rand(4, 50_000), dim=-1)
    plain = _expected(softmax)
    Ledger(Options(), "none").compare((torch.zeros_like(softmax),), plain)
    allowance = allowance_of(softmax, Tolerance(atol=1e-4, rtol=1e-4), floor=3e-5)
    scaled = dataclasses.replace(plain, allowances=(allowance,))
    Ledger(Options(), "none").compare((softmax * (1 + 1e-6),), scaled)
    with pytest.raises(Failed, match="in units of the output's spread") as failed:
        Ledger(Options(), "none").compare((torch.zeros_like(softmax),), scaled)
    assert failed.value.verdict is Verdict.WRONG_RESULT


def test_an_output_nearer_to_a_null_answer_than_to_the_right_one_is_wrong() -> None:
    right = torch.full((300,), 5e-5)
    expected = dataclasses.replace(_expected(right), nulls=((Null("zeros", 0.0),),))
    for value in (5e-5, 4e-5, 1e-4):
        Ledger(Options(), "none").compare((torch.full((300,), value),), expected)
    for value in (0.0, 2e-5):
        with pytest.raises(Failed, match=r"computes nothing \(zeros\)") as failed:
            Ledger(Options(), "none").compare((torch.full((300,), value),), expected)
        assert failed.value.verdict is Verdict.WRONG_RESULT
        assert failed.value.correct is False


def test_the_record_says_how_it_was_compared() -> None:
    ledger = Ledger(Options(), "none", comparison="scaled", oracle="fp64")
    assert (ledger.record().comparison, ledger.record().oracle) == ("scaled", "fp64")
