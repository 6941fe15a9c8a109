from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keck.messages import Interval
from keck_executor.judge.stats import (
    charged_s,
    interval_at_least,
    interval_ms,
    is_settled,
    is_slowed,
    noise_of,
    speedup_of,
    spread,
)

_seconds = st.floats(min_value=0.0, max_value=3600.0)
_samples = st.lists(_seconds, min_size=1, max_size=60)


def _exactly(ms: float) -> Interval:
    return Interval(median=ms, ci95=(ms, ms), n=1)


@given(_samples)
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples: list[float]) -> None:
    found = interval_ms(samples)
    low, high = found.ci95
    assert 1e3 * min(samples) <= low <= found.median <= high <= 1e3 * max(samples)
    assert found.n == len(samples)


@given(_samples, st.integers())
def test_the_order_of_samples_does_not_matter(samples: list[float], seed: int) -> None:
    shuffled = samples.copy()
    random.Random(seed).shuffle(shuffled)
    assert interval_ms(shuffled) == interval_ms(samples)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    draw = random.Random(7)
    covered = 0
    for _ in range(400):
        low, high = interval_ms([draw.gauss(10.0, 1.0) for _ in range(50)]).ci95
        covered += low <= 1e4 <= high
    assert 0.92 <= covered / 400 <= 1.0


def test_more_samples_make_a_narrower_interval() -> None:
    draw = random.Random(3)
    samples = [draw.random() for _ in range(1000)]
    few, many = interval_ms(samples[:20]).ci95, interval_ms(samples).ci95
    assert many[1] - many[0] < few[1] - few[0]


def test_calls_behind_a_burst_are_counted() -> None:
    assert interval_ms([0.1, 0.2], calls=512).n == 512


def test_the_speedup_is_reference_over_candidate() -> None:
    assert speedup_of(_exactly(2.0), _exactly(6.0), uncertainty_ms=0.1).estimate == pytest.approx(3.0)


def test_what_vanishes_below_three_uncertainties_gains_nothing_more() -> None:
    reference = _exactly(6.0)
    at_floor = speedup_of(_exactly(3.0), reference, uncertainty_ms=1.0).estimate
    assert speedup_of(_exactly(0.0), reference, uncertainty_ms=1.0).estimate == at_floor == 2.0


def test_two_times_that_cannot_be_told_apart_are_equal() -> None:
    found = speedup_of(_exactly(0.001), _exactly(0.002), uncertainty_ms=0.05)
    assert (found.estimate, found.lower) == (1.0, 1.0)


@given(_samples, _samples, st.floats(min_value=0.0, max_value=1e3))
def test_the_bound_is_never_above_the_estimate_and_both_are_finite(
    candidate: list[float], reference: list[float], uncertainty_ms: float
) -> None:
    found = speedup_of(interval_ms(candidate), interval_ms(reference), uncertainty_ms=uncertainty_ms)
    assert 0.0 <= found.lower <= found.estimate
    assert math.isfinite(found.estimate)


@given(_seconds, _seconds, _seconds, st.floats(min_value=0.0, max_value=1.0))
def test_a_slower_candidate_never_scores_more(
    one: float, other: float, reference: float, uncertainty_ms: float
) -> None:
    fast, slow = sorted((one, other))
    of_fast = speedup_of(_exactly(fast), _exactly(reference), uncertainty_ms=uncertainty_ms)
    of_slow = speedup_of(_exactly(slow), _exactly(reference), uncertainty_ms=uncertainty_ms)
    assert of_slow.estimate <= of_fast.estimate
    assert of_slow.lower <= of_fast.lower


@given(_samples)
@example([0.0, 5e-324, 1.0, 1.0])  # a quotient beyond the largest float
def test_spread_and_noise_are_finite_and_not_negative(samples: list[float]) -> None:
    assert 0.0 <= spread(samples) <= max(samples) - min(samples)
    noise = noise_of(samples)
    assert noise >= 0.0
    assert math.isfinite(noise)


def test_a_steady_clock_has_no_noise() -> None:
    assert noise_of([0.5] * 9) == spread([0.5] * 9) == 0.0
    assert median([0.5] * 9) == 0.5


def test_a_median_is_settled_at_two_and_a_half_percent_or_at_what_the_clock_can_tell() -> None:
    near, far = [1.0, 1.01, 1.02, 1.03, 1.04], [1.0, 1.05, 1.1, 1.15, 1.2]
    assert is_settled(near, near, uncertainty_s=0.0)
    assert not is_settled(near, far, uncertainty_s=0.0)
    assert not is_settled(near, far, uncertainty_s=0.09)
    assert is_settled(near, far, uncertainty_s=0.11)


def test_calls_alone_may_differ_from_enqueued_ones_as_the_reference_s_do() -> None:
    for waking in (-40e-6, 0.0, 30e-6):
        candidate, reference = [8e-6 + waking + 3e-6] * 9, [10e-6 + waking] * 9
        found = charged_s(candidate, reference, candidate_enqueued_s=8e-6, reference_enqueued_s=10e-6)
        assert found == 8e-6


def test_calls_that_do_each_others_work_are_charged_what_they_take_alone() -> None:
    # Sixteen calls of 20 us done as one of 25.
    found = charged_s([25e-6] * 9, [24e-6] * 9, candidate_enqueued_s=1.6e-6, reference_enqueued_s=20e-6)
    assert found == pytest.approx(1.6e-6 + 1e-6 + 18.4e-6 - 3e-6)


def test_calls_that_gain_are_charged_three_microseconds_at_least() -> None:
    alone = [9e-6] * 9
    found = charged_s(alone, alone, candidate_enqueued_s=0.2e-6, reference_enqueued_s=9e-6)
    assert found == pytest.approx(0.2e-6 + 8.8e-6 - 3e-6)
    found = charged_s([2e-6] * 9, [4e-6] * 9, candidate_enqueued_s=0.2e-6, reference_enqueued_s=2.4e-6)
    assert found == 2.4e-6
    found = charged_s([2e-6] * 9, [10e-6] * 9, candidate_enqueued_s=1e-6, reference_enqueued_s=9e-6)
    assert found == 3e-6


def test_a_reference_is_slowed_if_it_is_faster_without_the_candidate_beyond_both_intervals() -> None:
    during = interval_ms([1.10, 1.11, 1.12, 1.11, 1.10])
    assert is_slowed(during, interval_ms([1.0, 1.01, 1.02, 1.01, 1.0]))
    assert not is_slowed(during, interval_ms([1.0, 1.01, 1.10, 1.01, 1.0]))
    assert not is_slowed(during, interval_ms([1.08, 1.09, 1.09, 1.08, 1.07]))


def test_nobody_is_charged_more_than_the_reference_takes() -> None:
    found = charged_s([2e-3] * 9, [50e-6] * 9, candidate_enqueued_s=20e-6, reference_enqueued_s=48e-6)
    assert found == 48e-6
    assert charged_s([2e-3] * 9, [50e-6] * 9, candidate_enqueued_s=60e-6, reference_enqueued_s=48e-6) == 60e-6


def test_a_few_slow_calls_alone_do_not_charge_anybody() -> None:
    samples = [5e-6] * 6 + [90e-6] * 3
    assert charged_s(samples, [10e-6] * 9, candidate_enqueued_s=5e-6, reference_enqueued_s=10e-6) == 5e-6


def test_an_interval_can_be_held_up_from_below() -> None:
    interval = Interval(median=2.0, ci95=(1.0, 4.0), n=7)
    assert interval_at_least(interval, 3.0) == Interval(median=3.0, ci95=(3.0, 4.0), n=7)
    assert interval_at_least(interval, 0.5) == interval
