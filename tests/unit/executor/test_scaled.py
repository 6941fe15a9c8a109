from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keck.messages import Options, Tolerance
from keck_executor.judge import slices
from keck_executor.judge.compare import compare, tolerance_for
from keck_executor.judge.rounding import Errors, Rounding
from keck_executor.judge.scaled import Allowance, allowance_of, compare_scaled, spread_between
from keck_executor.runner.wire import DTYPES

FINE = Tolerance(atol=1e-4, rtol=1e-4)
LOOSE = Tolerance(atol=1e-2, rtol=1e-2)
_numbers = st.floats(width=32) | st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0])


def _floor(expected: torch.Tensor, noise: float = 0.0) -> float:
    return Rounding(Errors(largest=noise)).largest_budget(expected.dtype)


def _allowance(expected: torch.Tensor, tolerance: Tolerance = FINE, *, noise: float = 0.0) -> Allowance:
    return allowance_of(expected, tolerance, floor=_floor(expected, noise))


def test_zeros_for_a_softmax_over_many_columns_are_wrong() -> None:
    expected = torch.softmax(torch.rand(4, 50_000), dim=-1)
    zeros = torch.zeros_like(expected)
    assert compare(zeros, expected, FINE).mismatched == 0
    assert compare_scaled(zeros, expected, _allowance(expected)).mismatched == expected.numel()


def test_an_honest_softmax_of_another_order_is_right() -> None:
    x = torch.rand(4, 50_000)
    expected = torch.softmax(x, dim=-1)
    powers = torch.exp2(x * math.log2(math.e))
    actual = powers / powers.view(4, -1, 50).sum(-1).sum(-1, keepdim=True)
    assert not torch.equal(actual, expected)
    assert compare_scaled(actual, expected, _allowance(expected)).mismatched == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_last_bit_of_a_narrow_output_is_free(dtype: torch.dtype) -> None:
    expected = (2 + 0.001 * torch.randn(64, 512)).to(dtype)
    actual = torch.nextafter(expected, torch.full_like(expected, 9.0))
    assert compare_scaled(actual, expected, _allowance(expected, LOOSE)).mismatched == 0


def test_a_scalar_is_measured_by_how_it_varies_between_sets() -> None:
    losses = [torch.randn(10_000).square().mean() for _ in range(5)]
    between = spread_between(losses)
    allowance = allowance_of(losses[0], LOOSE, floor=_floor(losses[0]), between=between)
    assert allowance.resolved
    assert compare(torch.tensor(1.0), losses[0], Tolerance(atol=0.1, rtol=0.0)).mismatched == 0
    assert compare_scaled(losses[1], losses[0], allowance).mismatched == 1
    assert compare_scaled(losses[0] * (1 + 3e-7), losses[0], allowance).mismatched == 0


def test_an_output_that_is_mostly_a_bias_is_measured_by_what_varies() -> None:
    bias = torch.randn(512)
    sets = [bias + 1e-5 * torch.randn(64, 512) for _ in range(3)]
    between = spread_between(sets)
    alone, known = _allowance(sets[0]), allowance_of(sets[0], FINE, floor=_floor(sets[0]), between=between)
    assert compare_scaled(sets[1], sets[0], alone).mismatched == 0
    # What varies is 1e-5, the floor at 256 ulps of the largest bias about 1e-4: nobody can be held to less.
    assert not known.resolved
    louder = [bias + 1e-3 * torch.randn(64, 512) for _ in range(3)]
    known = allowance_of(louder[0], FINE, floor=_floor(louder[0]), between=spread_between(louder))
    assert known.resolved
    assert compare_scaled(louder[1], louder[0], known).mismatched > 0.9 * 64 * 512


def test_the_spread_between_sets_is_the_standard_deviation() -> None:
    sets = [3.0 + 0.5 * torch.randn(4, 20_000) for _ in range(6)]
    found = spread_between(sets)
    assert found is not None
    assert torch.allclose(torch.cat(found), torch.full((4, 1), 0.5, dtype=torch.float64), rtol=0.05)


@pytest.mark.parametrize("sets", [[torch.ones(3)], [torch.ones(3), torch.ones(4)]])
def test_without_two_sets_of_one_shape_nothing_is_known_between_them(sets: list[torch.Tensor]) -> None:
    assert spread_between(sets) is None


@pytest.mark.parametrize(
    "expected", [torch.zeros(8, 300), torch.ones(300), torch.tensor(5.0), torch.full((3,), math.nan)]
)
def test_a_constant_is_not_resolved(expected: torch.Tensor) -> None:
    assert not _allowance(expected).resolved


def test_what_the_reference_itself_gets_wrong_is_allowed() -> None:
    noise = 1e-7 * torch.randn(4, 1000)  # a sum of probabilities, minus one: nothing but rounding
    assert _allowance(noise).resolved
    known = _allowance(noise, noise=1.0)
    assert not known.resolved
    assert compare_scaled(-noise, noise, known).mismatched == 0


def test_a_row_of_zeros_beside_others_may_come_out_as_next_to_nothing() -> None:
    expected = torch.randn(4, 512) * 1e-5
    expected[2] = 0
    actual = expected.clone()
    actual[2] = 1e-13
    assert compare_scaled(actual, expected, _allowance(expected)).mismatched == 0
    actual[2] = 1e-6
    assert compare_scaled(actual, expected, _allowance(expected)).mismatched == 512


@given(st.lists(st.tuples(_numbers, _numbers), min_size=1, max_size=40))
@settings(deadline=None)
def test_it_is_never_looser_than_the_tolerance_and_what_is_not_finite_must_be_the_same(
    pairs: list[tuple[float, float]],
) -> None:
    actual, expected = (torch.tensor(side, dtype=torch.float32) for side in zip(*pairs, strict=True))
    plain, found = (
        compare(actual, expected, LOOSE),
        compare_scaled(actual, expected, _allowance(expected, LOOSE)),
    )
    assert found.mismatched >= plain.mismatched
    assert compare_scaled(expected.clone(), expected, _allowance(expected)).mismatched == 0
    assert math.isfinite(found.max_abs)
    assert math.isfinite(found.max_rel)


@given(st.floats(1e-6, 1e2), st.floats(-1.0, 1.0), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_scaling_and_moving_the_output_changes_nothing_but_rounding(
    scale: float, shift: float, seed: int
) -> None:
    """The comparison is the tolerance's on standardised slices: invariant as far as the floor allows."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(2, 4096, generator=generator, dtype=torch.float64)
    off = base + 1e-3 * torch.randn(2, 4096, generator=generator, dtype=torch.float64)
    tight = Tolerance(atol=1e-3, rtol=0.0)
    stretched, moved = base * scale + shift * scale, off * scale + shift * scale
    before = compare_scaled(off, base, _allowance(base, Tolerance(atol=1e-3, rtol=0.0))).mismatched
    # A tolerance that never binds of itself: only the scaled part is looked at.
    allowance = _allowance(stretched, Tolerance(atol=tight.atol, rtol=0.0))
    if scale <= 1:
        assert abs(compare_scaled(moved, stretched, allowance).mismatched - before) <= 0.02 * base.numel()


@pytest.mark.parametrize(
    "name", [name for name in DTYPES if getattr(torch, name).is_floating_point or "complex" in name]
)
def test_every_inexact_dtype_can_be_compared(name: str) -> None:
    expected = torch.randn(2, 512).to(getattr(torch, name))
    allowance = _allowance(expected, tolerance_for(expected.dtype, Options()))
    assert compare_scaled(expected.clone(), expected, allowance).mismatched == 0
    assert compare_scaled(torch.zeros_like(expected), expected, allowance).mismatched > 500


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.softmax(torch.randn(64, 300), dim=-1)
    actual = expected * (1 + 1e-3 * torch.rand(64, 300))
    whole = compare_scaled(actual, expected, _allowance(expected))
    monkeypatch.setitem(slices._BLOCK, "cpu", 1000)
    parts = compare_scaled(actual, expected, _allowance(expected))
    assert parts == whole
    assert 0 < whole.mismatched < whole.total
