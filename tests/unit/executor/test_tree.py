from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keck_executor.runner.tree import (
    Unsupported,
    fills_its_extent,
    flatten,
    nodes_from_json,
    nodes_to_json,
    rebuild,
)
from keck_executor.runner.wire import MAX_NODES, Node, NodeKind

_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
)
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_values)
def test_a_value_survives_flattening(value: object) -> None:
    nodes, tensors = flatten(value)
    assert tensors == []
    assert rebuild(nodes, tensors) == value
    assert nodes_from_json(nodes_to_json(nodes)) == nodes


def test_types_survive_too() -> None:
    value = [True, 1, 1.0, (None,), "1", {"b": 0, "a": math.inf}]
    nodes, _ = flatten(value)
    back = rebuild(nodes, [])
    assert repr(back) == repr(value)


def test_tensors_keep_their_order_and_place() -> None:
    a, b, c = torch.zeros(1), torch.ones(2), torch.ones(3)
    nodes, tensors = flatten({"x": [a, 7, b], "y": c})
    assert [t.numel() for t in tensors] == [1, 2, 3]
    back = rebuild(nodes, tensors)
    assert back["y"] is tensors[2]
    assert back["x"][1] == 7


def test_outputs_with_equal_keys_have_equal_trees_in_any_order() -> None:
    one, other = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert flatten(one, sort_keys=True) == flatten(other, sort_keys=True)
    assert flatten(one) != flatten(other)


class _Subclass(torch.Tensor):
    pass


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "type object"),
        ({1: 2}, "dict key"),
        ({1, 2}, "type set"),
        (2**63, "64 bits"),
        ("x" * 49, "more than 48 bytes"),
        ("\ud800", "Unicode"),
        (_nested(40), "nested too deeply"),
        (_endless(), "nested too deeply"),
        ([0] * (MAX_NODES + 1), "too many"),
        (torch.zeros(2).to_sparse(), "sparse"),
        (torch.zeros(2).as_subclass(_Subclass), "subclass _Subclass"),
        (torch.zeros((1,) * 9), "more than 8 dimensions"),
        (torch.zeros(2).to(torch.float8_e8m0fnu), "float8_e8m0fnu"),
    ],
)
def test_what_cannot_be_judged_is_named(value: object, told: str) -> None:
    with pytest.raises(Unsupported, match=told):
        flatten(value)


@pytest.mark.parametrize(
    "nodes",
    [
        (),
        (Node(NodeKind.LIST, 2), Node(NodeKind.NONE)),
        (Node(NodeKind.NONE), Node(NodeKind.NONE)),
    ],
)
def test_nodes_that_are_no_tree_are_refused(nodes: Sequence[Node]) -> None:
    with pytest.raises(ValueError, match="nodes"):
        rebuild(nodes, [])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_permuted_contiguous_tensor_fills_its_extent(shape: list[int], random: Any) -> None:
    order = list(range(len(shape)))
    random.shuffle(order)
    tensor = torch.empty(shape).permute(order)
    assert fills_its_extent(tensor.shape, tensor.stride())


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 7)), min_size=1, max_size=3))
def test_filling_means_each_place_once_and_none_left_out(layout: list[tuple[int, int]]) -> None:
    shape, strides = zip(*layout, strict=True)
    places = sorted(
        sum(i * s for i, s in zip(at, strides, strict=True)) for at in itertools.product(*map(range, shape))
    )
    assert fills_its_extent(shape, strides) == (places == list(range(len(places))))


def test_mappings_of_other_kinds_are_refused() -> None:
    class Odd(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter(())

        def __len__(self) -> int:
            return 0

    with pytest.raises(Unsupported, match="Odd"):
        flatten(Odd())
