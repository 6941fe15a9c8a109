"""Where honest rounding ends and a lower precision begins, with real arithmetic on both sides of the line."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from keck_executor.judge.error_budget import precision_flag
from keck_executor.judge.rounding import Errors, Rounding, errors_of


def in_order(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A product summed one term after the other in fp32, as a naive kernel does."""
    total = torch.zeros(a.shape[0], b.shape[1])
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k : k + 1]
    return total


def in_blocks(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Partial sums added in no particular order, as atomics do."""
    parts = [part_a @ part_b for part_a, part_b in zip(a.split(32, 1), b.split(32, 0), strict=True)]
    total = torch.zeros_like(parts[0])
    for index in torch.randperm(len(parts)).tolist():
        total += parts[index]
    return total


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to the ten bits that tensor cores keep."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def through(
    rounded: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda a, b: rounded(a) @ rounded(b)


HONEST = {"in order": in_order, "in blocks": in_blocks}
LOWERED = {
    "tf32": through(tf32),
    "bfloat16": through(lambda x: x.bfloat16().float()),
    "float16": through(lambda x: x.half().float()),
}
LAWS = {"normal": torch.randn, "positive": torch.rand}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("width", [256, 4096])
@pytest.mark.parametrize("how", [*HONEST, *LOWERED])
def test_a_product_is_flagged_exactly_if_its_precision_was_lowered(how: str, width: int, law: str) -> None:
    a, b = LAWS[law](32, width), LAWS[law](width, 256)
    expected = a @ b
    known = Rounding(errors_of(expected, a.double() @ b.double()))
    flag = precision_flag([{**HONEST, **LOWERED}[how](a, b)], [expected], [known], "fp64")
    assert (flag is not None) == (how in LOWERED)
    if flag is not None:
        assert (flag.code, flag.severity) == ("precision_lowered", "warn")
        assert "oracle: fp64" in flag.evidence


@pytest.mark.parametrize(("terms", "lanes"), [(10_000, 1), (100_000, 1), (1_000_000, 20)])
@pytest.mark.parametrize("law", LAWS)
def test_a_long_sum_in_plain_order_is_honest(law: str, terms: int, lanes: int) -> None:
    x = LAWS[law](terms, 16).square()
    expected = x.sum(0)
    sums = torch.zeros(lanes, 16)
    for rows in x.view(-1, lanes, 16):
        sums += rows
    total = torch.zeros(16)
    for each in sums:
        total += each
    assert not torch.equal(total, expected)
    known = Rounding(errors_of(expected, x.double().sum(0)), terms=terms)
    assert precision_flag([total], [expected], [known], "fp64") is None
    assert errors_of(total, expected).largest < known.largest_budget(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_output_of_fp32_arithmetic_is_honest(dtype: torch.dtype) -> None:
    a, b = torch.randn(64, 512).to(dtype), torch.randn(512, 256).to(dtype)
    exact = a.double() @ b.double()
    expected = exact.float().to(dtype)
    known = Rounding(errors_of(expected, exact))
    other = in_order(a.float(), b.float()).to(dtype)
    assert precision_flag([other], [expected], [known], "fp64") is None


def test_sums_kept_in_bfloat16_are_flagged() -> None:
    a, b = torch.randn(64, 512).bfloat16(), torch.randn(512, 256).bfloat16()
    exact = a.double() @ b.double()
    expected = exact.float().bfloat16()
    total = torch.zeros(64, 256, dtype=torch.bfloat16)
    for k in range(512):
        total += a[:, k : k + 1] * b[k : k + 1]
    assert precision_flag([total], [expected], [Rounding(errors_of(expected, exact))], "fp64") is not None


def test_the_flag_names_the_output_and_the_numbers() -> None:
    right, wrong = torch.ones(300), torch.ones(300) + 1e-3
    flag = precision_flag(
        [right, wrong], [right, right], [Rounding(Errors()), Rounding(Errors(rms=1e-7))], "fp32"
    )
    assert flag is not None
    assert flag.evidence == (
        "output 1: rms error 0.001 of the slice's rms, budget 3.8e-06; the reference's own 1e-07 (oracle: fp32)"
    )


def test_nothing_is_held_against_exact_or_unknown_outputs() -> None:
    ints, floats = torch.arange(5), torch.ones(5)
    assert precision_flag([ints], [ints + 1], [Rounding(Errors())], "fp64") is None
    assert precision_flag([floats], [floats + 0.5], [None], "fp32") is None


def test_what_is_not_finite_says_nothing_of_precision() -> None:
    expected = torch.tensor([1.0, math.inf, math.nan, 2.0])
    assert errors_of(expected + 0.0, expected) == Errors()
    assert errors_of(torch.full((4,), math.nan), torch.full((4,), math.nan)) == Errors()


def test_a_faint_slice_is_measured_by_the_whole_output() -> None:
    expected = torch.randn(4, 512)
    expected[1] = 0
    actual = expected.clone()
    actual[1] = 1e-12
    assert errors_of(actual, expected).rms < 1e-8
    assert errors_of(torch.empty(0), torch.empty(0)) == Errors()


def test_errors_of_two_runs_join_to_the_worse() -> None:
    assert Errors(rms=1.0, largest=2.0) | Errors(rms=3.0, largest=1.0) == Errors(rms=3.0, largest=2.0)
