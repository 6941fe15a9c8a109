from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keck_executor.judge import slices as module
from keck_executor.judge.slices import block_count, blocks, slice_length
from keck_executor.runner.wire import DTYPES

_shapes = st.lists(st.integers(1, 40), max_size=4).filter(lambda shape: math.prod(shape) <= 50_000)


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        ((64, 512), 512),
        ((2, 3, 32, 32), 1024),
        ((1000,), 1000),
        ((4096, 10), 40_960),
        ((8, 1), 8),
        ((), 1),
        ((1, 393_216), 393_216),
    ],
)
def test_a_slice_is_the_smallest_trailing_block_that_says_something(
    shape: tuple[int, ...], length: int
) -> None:
    assert slice_length(shape) == length


@settings(deadline=None)
@given(_shapes)
def test_blocks_are_the_tensor_in_order(shape: list[int]) -> None:
    tensor = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    assert torch.equal(torch.cat([block.reshape(-1) for block in blocks(tensor)]), tensor.reshape(-1))
    assert {block.shape[1] for block in blocks(tensor)} == {slice_length(shape)}


@settings(deadline=None)
@given(_shapes, st.integers(1, 300), st.integers(1, 600))
def test_long_slices_and_many_rows_are_cut_into_bounded_blocks(
    shape: list[int], most: int, block: int
) -> None:
    tensor = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST", most)
        patch.setitem(module._BLOCK, "cpu", block)
        cut = list(blocks(tensor))
    assert torch.equal(torch.cat([each.reshape(-1) for each in cut]), tensor.reshape(-1))
    assert all(each.numel() <= max(most, block) for each in cut)


def test_a_tensor_in_another_memory_order_is_cut_by_position() -> None:
    tensor = torch.arange(1200.0).reshape(300, 4)
    (block,) = blocks(tensor.t().contiguous().t())
    assert torch.equal(block, tensor.double().reshape(1, -1))


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_of_the_wire_has_blocks(name: str) -> None:
    tensor = torch.ones(3, 300).to(getattr(torch, name))
    (block,) = blocks(tensor)
    assert block.dtype is torch.float64
    assert block.shape == ((3, 600) if tensor.is_complex() else (3, 300))
    assert block.max() == 1


def test_an_empty_tensor_has_none() -> None:
    assert list(blocks(torch.empty(0, 5))) == []


@settings(deadline=None)
@given(_shapes, st.sets(st.integers(0, 20)))
def test_some_blocks_are_those_of_all_blocks(shape: list[int], only: set[int]) -> None:
    tensor = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._BLOCK, "cpu", 300)
        every, some = list(blocks(tensor)), list(blocks(tensor, only))
        assert block_count(tensor) == len(every)
    assert len(some) == len([number for number in only if number < len(every)])
    for number, block in zip(sorted(only), some, strict=False):
        assert torch.equal(block, every[number])
