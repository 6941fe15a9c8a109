from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keck_executor.judge.inputs import checked_view
from keck_executor.runner.wire import DTYPES, ProtocolError, TensorRecord

MEMORY = torch.arange(256, dtype=torch.uint8).repeat(16)  # 4096 bytes


def _record(
    shape: tuple[int, ...], strides: tuple[int, ...], *, offset: int = 0, dtype: str = "float32"
) -> TensorRecord:
    return TensorRecord(dtype, shape, strides, offset, 0)


def test_a_view_shows_the_memory_it_describes() -> None:
    view = checked_view(MEMORY, _record((2, 3), (1, 2), offset=512, dtype="uint8"))
    assert view.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert view.data_ptr() == MEMORY.data_ptr() + 512


def test_strides_are_ignored_where_outputs_were_copied_densely() -> None:
    view = checked_view(MEMORY, _record((2, 3), (0, 0), dtype="uint8"), dense=True)
    assert view.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_can_be_viewed(name: str) -> None:
    assert checked_view(MEMORY, _record((4,), (1,), dtype=name)).dtype is getattr(torch, name)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(_record((1025,), (1,)), id="one element beyond the end"),
        pytest.param(_record((1,), (1,), offset=4096), id="behind the end"),
        pytest.param(_record((1,), (1,), offset=2**64 - 4), id="offset near overflow"),
        pytest.param(_record((1,), (1,), offset=2), id="misaligned"),
        pytest.param(_record((1,), (1,), offset=8, dtype="complex128"), id="misaligned for its dtype"),
        pytest.param(_record((4,), (0,)), id="expanded"),
        pytest.param(_record((4, 4), (5, 0)), id="overlapping over a full extent"),
        pytest.param(_record((4,), (2,)), id="gaps"),
        pytest.param(_record((2**24, 2**24), (2**24, 1)), id="2**48 elements"),
        pytest.param(_record((2**62,), (1,)), id="huge"),
        pytest.param(_record((2**62, 2**62), (1, 1)), id="product beyond 64 bits"),
        pytest.param(_record((0, 2**62, 2**62), (1, 1, 1)), id="zero times huge"),
        pytest.param(_record((2,), (2**63 - 1,)), id="stride at the limit"),
        pytest.param(_record((1,), (1,), dtype="quint8"), id="unknown dtype"),
    ],
)
def test_what_does_not_fit_is_refused(record: TensorRecord) -> None:
    with pytest.raises(ProtocolError):
        checked_view(MEMORY, record)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 4)])
def test_strides_of_single_elements_may_be_anything(shape: tuple[int, ...]) -> None:
    strides = tuple(1 if size > 1 else 2**63 - 1 for size in shape)
    assert checked_view(MEMORY, _record(shape, strides)).shape == shape


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_a_tensor_of_nothing_needs_no_memory(shape: tuple[int, ...]) -> None:
    view = checked_view(torch.empty(0, dtype=torch.uint8), _record(shape, (1,) * len(shape), offset=10**9))
    assert view.shape == shape


_sizes = st.integers(0, 8) | st.integers(0, 2**63 - 1)


@given(
    st.lists(st.tuples(_sizes, _sizes), max_size=8),
    st.integers(0, 5000) | st.integers(0, 2**64 - 1),
    st.sampled_from(DTYPES),
    st.booleans(),
)
def test_any_description_is_a_view_inside_the_memory_or_a_protocol_error(
    layout: list[tuple[int, int]], offset: int, dtype: str, dense: bool
) -> None:
    shape, strides = tuple(size for size, _ in layout), tuple(stride for _, stride in layout)
    try:
        view = checked_view(MEMORY, _record(shape, strides, offset=offset, dtype=dtype), dense=dense)
    except ProtocolError:
        return
    assert tuple(view.shape) == shape
    if view.numel():
        start = view.data_ptr() - MEMORY.data_ptr()
        assert start == offset
        assert start + view.numel() * view.element_size() <= MEMORY.numel()
        view.clone()  # every element can be read
