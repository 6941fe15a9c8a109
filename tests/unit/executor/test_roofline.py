"""The least time of a call, from what it must move."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from keck_executor.judge.inputs import Form, InputSet
from keck_executor.judge.outputs import Expected
from keck_executor.judge.roofline import bytes_that_matter, floor_of, needed_share
from keck_executor.runner.wire import TensorRecord

N = 4096
FORM = Form(
    (),
    (TensorRecord("float32", (N,), (1,), 0, 4 * N), TensorRecord("int64", (N,), (1,), 4 * N, 8 * N)),
    12 * N,
)


def input_set(seed: int) -> InputSet:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(N, generator=generator)
    indices = torch.randint(0, N, (N,), generator=generator)
    return InputSet(0, FORM, torch.cat([numbers.view(torch.uint8), indices.view(torch.uint8)]))


def moved(forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    def call(inputs: InputSet) -> Sequence[torch.Tensor]:
        return [forward(inputs.master[: 4 * N].view(torch.float32), inputs.master[4 * N :].view(torch.int64))]

    inputs = input_set(1)
    expected = Expected(("a tensor",), tuple(output.clone() for output in call(inputs)))
    return bytes_that_matter(call, inputs, input_set(2), expected)


def test_all_that_is_read_and_written_counts() -> None:
    assert 0.9 * 4 * N + 4 * N < moved(lambda x, _: x * 2) <= 8 * N


def test_what_is_not_read_does_not_count() -> None:
    assert moved(lambda _, __: torch.zeros(N)) == 4 * N


def test_of_what_is_read_in_part_a_part_counts() -> None:
    half = moved(lambda x, _: x[: N // 2] * 2)
    assert 2 * N < half < 2 * N + 0.7 * 4 * N


def test_what_cannot_be_seen_to_matter_does_not_count() -> None:
    """A maximum depends on all of its input, and shows it in one place."""
    assert moved(lambda x, _: x.max().reshape(1)) < 4 + 0.2 * 4 * N


def test_an_answer_that_changes_by_itself_shows_nothing_of_its_inputs() -> None:
    assert moved(lambda x, _: x + torch.rand(N)) == 4 * N


@pytest.mark.parametrize(
    ("hits", "low", "high"), [(0, 0, 0), (48, 0.9, 0.92), (24, 0.3, 0.35), (1, 0, 0.001)]
)
def test_the_share_is_a_lower_bound(hits: int, low: float, high: float) -> None:
    assert low <= needed_share(hits, 48) <= high


def test_a_cache_holds_some_of_it_once() -> None:
    one = floor_of(300e6, calls=1, cache_bytes=50_000_000, bandwidth=1e12)
    assert one.bytes == 200e6
    assert one.seconds == pytest.approx(200e6 / 1.1e12)
    many = floor_of(300e6, calls=100, cache_bytes=50_000_000, bandwidth=1e12)
    assert many.bytes == 299e6
    assert floor_of(1e6, calls=10, cache_bytes=50_000_000, bandwidth=1e12).seconds == 0
    assert "299.0 MB" in many.evidence(1e-4)
