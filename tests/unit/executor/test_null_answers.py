from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keck.messages import Tolerance
from keck_executor.judge.null_answers import Target, best_constant, fit_of
from keck_executor.judge.scaled import allowance_of

FINE = Tolerance(atol=1e-4, rtol=1e-4)
LOOSE = Tolerance(atol=1e-2, rtol=1e-2)
EXACT = Tolerance(atol=0.0, rtol=0.0)
_numbers = st.floats(-10.0, 10.0, width=32)


def _scaled(expected: torch.Tensor, tolerance: Tolerance = FINE) -> Target:
    return Target(expected, tolerance, allowance_of(expected, tolerance, floor=3e-5))


def test_zeros_fit_what_is_smaller_than_the_tolerance_on_every_set() -> None:
    small, large = Target(torch.full((300,), 1e-5), FINE), Target(torch.full((300,), 1e-3), FINE)
    assert fit_of([0.0, 0.0], [small, small]).passes
    refuted = fit_of([0.0, 0.0], [small, large])
    assert not refuted.passes
    assert refuted.max_abs == pytest.approx(1e-3)
    assert refuted.ratio == pytest.approx(1e-3 / (1e-4 + 1e-7), rel=1e-4)


def test_another_sets_answer_fits_where_the_inputs_hardly_matter() -> None:
    bias = torch.randn(100)
    near = [bias + 1e-6 * torch.randn(100) for _ in range(3)]
    targets = [Target(tensor, FINE) for tensor in near]
    assert fit_of([*near[1:], near[0]], targets).passes
    far = [torch.randn(100) for _ in range(3)]
    assert not fit_of([*far[1:], far[0]], [Target(tensor, FINE) for tensor in far]).passes


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fits_only_itself(special: float) -> None:
    target = Target(torch.tensor([1.0, special]), LOOSE)
    assert not fit_of([1.0], [target]).passes
    assert fit_of([torch.tensor([1.0, special])], [target]).passes
    everywhere = Target(torch.full((4,), special), LOOSE)
    assert best_constant([everywhere])[1]
    assert not best_constant([everywhere, Target(torch.ones(4), LOOSE)])[1]


def test_the_constant_of_a_loss_is_found() -> None:
    losses = [Target(torch.tensor(2.0 + shift), LOOSE) for shift in (0.01, -0.01, 0.0)]
    value, passes = best_constant(losses)
    assert passes
    assert fit_of([value] * 3, losses).passes
    assert not best_constant([Target(torch.tensor(2.0), LOOSE), Target(torch.tensor(2.1), LOOSE)])[1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_exact_outputs_have_a_constant_only_if_they_are_one(dtype: torch.dtype) -> None:
    ones, mixed = torch.ones(5).to(dtype), torch.tensor([1, 0]).to(dtype)
    assert best_constant([Target(ones, EXACT), Target(ones, EXACT)]) == (1.0, True)
    assert not best_constant([Target(mixed, EXACT)])[1]


@given(st.lists(_numbers, min_size=1, max_size=12), st.floats(0.0, 3.0), st.floats(0.0, 0.5))
@settings(deadline=None)
def test_a_constant_is_found_exactly_if_there_is_one(values: list[float], atol: float, rtol: float) -> None:
    """Against a search over every end of an interval, one of which a passing constant can always be moved to."""
    target = Target(torch.tensor(values, dtype=torch.float64), Tolerance(atol=atol, rtol=rtol))
    ends = [value + sign * (atol + rtol * abs(value)) for value in values for sign in (-1, 1)]
    searched = any(
        all(abs(end - value) <= atol + rtol * abs(value) + 1e-12 for value in values) for end in ends
    )
    strictly = any(
        all(abs(end - value) <= atol + rtol * abs(value) - 1e-12 for value in values) for end in ends
    )
    value, passes = best_constant([target])
    assert passes or not strictly
    assert searched or not passes
    if passes:
        assert fit_of([value], [target]).ratio <= 1 + 1e-9 or fit_of([value], [target]).max_abs < 1e-9


def test_the_scale_aware_comparison_refutes_what_the_tolerance_takes() -> None:
    softmax = torch.softmax(torch.rand(4, 50_000), dim=-1)
    for targets, passes in (([Target(softmax, FINE)], True), ([_scaled(softmax)], False)):
        assert fit_of([0.0], targets).passes == passes
        assert best_constant(targets)[1] == passes


def test_numbers_stay_finite_for_they_travel_as_json() -> None:
    fit = fit_of([0.0], [Target(torch.ones(3), EXACT)])
    assert not fit.passes
    assert math.isfinite(fit.ratio)
    assert math.isfinite(fit_of([torch.full((3,), math.nan)], [Target(torch.ones(3), LOOSE)]).max_abs)


def test_an_empty_output_takes_any_answer() -> None:
    empty = [Target(torch.empty(0), FINE)]
    assert fit_of([0.0], empty).passes
    assert best_constant(empty) == (0.0, True)
