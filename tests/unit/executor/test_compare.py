from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keck.messages import Options, Tolerance
from keck_executor.judge import compare as module
from keck_executor.judge.compare import Difference, compare, tolerance_for
from keck_executor.runner.wire import DTYPES

EXACT = Tolerance(atol=0.0, rtol=0.0)
LOOSE = Tolerance(atol=1e-2, rtol=1e-2)
_numbers = st.floats(width=32) | st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0])


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_of_the_wire_can_be_compared(name: str) -> None:
    dtype = getattr(torch, name)
    tolerance = tolerance_for(dtype, Options())
    ones, zeros = torch.ones(5).to(dtype), torch.zeros(5).to(dtype)
    assert compare(ones, ones, tolerance).mismatched == 0
    assert compare(ones, zeros, tolerance).mismatched == 5


@pytest.mark.parametrize(
    ("dtype", "preset", "atol"),
    [
        (torch.float32, "kernelbench", 1e-4),
        (torch.float64, "kernelbench", 1e-4),
        (torch.float16, "kernelbench", 1e-2),
        (torch.bfloat16, "kernelbench", 1e-2),
        (torch.float32, "keck", 1e-2),
        (torch.int32, "keck", 0.0),
        (torch.bool, "kernelbench", 0.0),
    ],
)
def test_a_preset_gives_each_dtype_its_tolerance(dtype: torch.dtype, preset: str, atol: float) -> None:
    options = Options(tolerance="keck" if preset == "keck" else "kernelbench")
    assert tolerance_for(dtype, options) == Tolerance(atol=atol, rtol=atol)


def test_explicit_numbers_win_over_the_preset_but_never_loosen_integers() -> None:
    options = Options(atol=0.5, rtol=0.25)
    assert tolerance_for(torch.float16, options) == Tolerance(atol=0.5, rtol=0.25)
    assert tolerance_for(torch.int8, options) == EXACT


def test_an_integer_that_is_off_by_one_is_wrong_at_any_size() -> None:
    wanted = torch.tensor([2**62, 0])
    assert compare(wanted + torch.tensor([1, 0]), wanted, EXACT).mismatched == 1


def test_the_tolerance_adds_an_absolute_and_a_relative_part() -> None:
    wanted = torch.tensor([100.0, 100.0, 0.0, 0.0])
    given_ = torch.tensor([101.0, 101.1, 0.0099, 0.011])
    assert compare(given_, wanted, LOOSE).mismatched == 2


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_a_special_value_matches_only_itself(special: float) -> None:
    wanted = torch.tensor([special, 1.0])
    assert compare(wanted.clone(), wanted, LOOSE).mismatched == 0
    for other in (math.nan, math.inf, -math.inf, 1.0):
        found = compare(torch.tensor([other, 1.0]), wanted, LOOSE).mismatched
        same = other == special or (math.isnan(other) and math.isnan(special))
        assert found == (0 if same else 1)


def test_a_nan_where_a_number_belongs_is_wrong_whatever_the_tolerance() -> None:
    huge = Tolerance(atol=1e6, rtol=1e6)
    assert compare(torch.tensor([math.nan, math.inf]), torch.tensor([1.0, 1.0]), huge).mismatched == 2


def test_nothing_compared_with_nothing_is_no_difference() -> None:
    assert compare(torch.empty(0, 3), torch.empty(0, 3), LOOSE) == Difference()


def test_an_output_in_another_memory_order_is_compared_by_position() -> None:
    wanted = torch.arange(6.0).reshape(2, 3)
    turned = wanted.t().contiguous().t()
    assert turned.stride() != wanted.stride()
    assert compare(turned, wanted, EXACT).mismatched == 0
    assert compare(wanted, wanted.flip(0), EXACT).mismatched == 6


def test_chunks_sum_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, given_ = torch.zeros(1000), torch.zeros(1000)
    given_[::7] = 1.0
    given_[999] = 3.0
    whole = compare(given_, wanted, LOOSE)
    monkeypatch.setattr(module, "CHUNK", 64)
    assert compare(given_, wanted, LOOSE) == whole
    assert (whole.mismatched, whole.total, whole.max_abs) == (144, 1000, 3.0)


def test_errors_stay_finite_for_they_travel_as_json() -> None:
    wanted = torch.tensor([5e-324, 1e308, math.inf, 0.0], dtype=torch.float64)
    given_ = torch.tensor([1e308, -1e308, 0.0, math.nan], dtype=torch.float64)
    found = compare(given_, wanted, EXACT)
    assert found.mismatched == 4
    assert math.isfinite(found.max_abs)
    assert math.isfinite(found.max_rel)


@given(st.lists(st.tuples(_numbers, _numbers), min_size=1, max_size=20), st.sampled_from([EXACT, LOOSE]))
def test_the_verdict_on_each_element_is_the_definition(
    pairs: list[tuple[float, float]], tolerance: Tolerance
) -> None:
    def right(actual: float, wanted: float) -> bool:
        if math.isfinite(wanted):
            return abs(actual - wanted) <= tolerance.atol + tolerance.rtol * abs(wanted)
        return actual == wanted or (math.isnan(actual) and math.isnan(wanted))

    actual, wanted = (torch.tensor(side, dtype=torch.float32) for side in zip(*pairs, strict=True))
    found = compare(actual, wanted, tolerance)
    assert found.mismatched == sum(not right(a, b) for a, b in pairs)
    assert found.total == len(pairs)
    assert math.isfinite(found.max_abs)
    assert math.isfinite(found.max_rel)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_integers_are_equal_only_to_themselves(values: list[int]) -> None:
    tensor = torch.tensor(values, dtype=torch.int64)
    for one, other in itertools.product(range(len(values)), repeat=2):
        found = compare(tensor[one : one + 1], tensor[other : other + 1], EXACT)
        assert found.mismatched == (values[one] != values[other])
