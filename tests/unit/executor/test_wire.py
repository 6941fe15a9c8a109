from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keck_executor.runner.wire import (
    DTYPES,
    MAX_DATAGRAM,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NODES,
    MAX_NUMBER,
    MAX_STRING,
    MAX_TENSORS,
    MAX_TEXT,
    Node,
    NodeKind,
    ProtocolError,
    Reply,
    Status,
    TensorRecord,
    align,
    pack_reply,
    unpack_reply,
)

HEADER = struct.Struct("<6I2d")
_text = st.text(max_size=MAX_STRING).filter(lambda text: len(text.encode()) <= MAX_STRING)
_nodes = st.builds(
    Node,
    st.sampled_from(NodeKind),
    count=st.integers(0, MAX_NODES),
    scalar=st.binary(min_size=8, max_size=8),
    text=_text,
)


@st.composite
def _tensors(draw: st.DrawFn) -> TensorRecord:
    shape = tuple(draw(st.lists(st.integers(0, 40), max_size=MAX_DIMS)))
    strides = tuple(draw(st.integers(0, 2**63 - 1)) for _ in shape)
    return TensorRecord(
        draw(st.sampled_from(DTYPES)),
        shape,
        strides,
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 1)),
        draw(st.binary(min_size=64, max_size=64)),
    )


_number = st.floats(0.0, MAX_NUMBER)
_replies = st.builds(
    Reply,
    st.integers(0, 2**32 - 1),
    st.sampled_from(Status),
    nodes=st.lists(_nodes, max_size=6).map(tuple),
    tensors=st.lists(_tensors(), max_size=4).map(tuple),
    text=st.binary(max_size=100),
    numbers=st.tuples(_number, _number),
)
_tensor = TensorRecord("float32", (2, 3), (3, 1), 0, 24)


def _header(
    *, magic: int = 0x4B45434B, status: int = 0, nodes: int = 0, tensors: int = 0, text: int = 0,
    numbers: tuple[float, float] = (0.0, 0.0),
) -> bytes:  # fmt: skip
    return HEADER.pack(magic, 1, status, nodes, tensors, text, *numbers)


def _raw_tensor(*, dtype: int = 0, ndim: int = 1, size: int = 1, stride: int = 1) -> bytes:
    sizes, strides = [size] + [0] * 7, [stride] + [0] * 7
    return struct.pack("<BBHI8q8qQQ64s", dtype, ndim, 0, 0, *sizes, *strides, 0, 0, b"")


@given(_replies)
def test_a_reply_survives_the_wire(reply: Reply) -> None:
    assert unpack_reply(pack_reply(reply)) == reply


def test_the_largest_reply_fits_a_datagram() -> None:
    reply = Reply(
        1,
        Status.OK,
        nodes=(Node(NodeKind.NONE),) * MAX_NODES,
        tensors=(_tensor,) * MAX_TENSORS,
        text=b"x" * (MAX_TEXT + 1),
    )
    data = pack_reply(reply)
    assert len(data) == MAX_DATAGRAM
    assert unpack_reply(data).text == b"x" * MAX_TEXT


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(_header()[:-1], id="short header"),
        pytest.param(_header(magic=1), id="wrong magic"),
        pytest.param(_header(nodes=MAX_NODES + 1), id="too many nodes"),
        pytest.param(_header(nodes=0xFFFFFFFF), id="absurdly many nodes"),
        pytest.param(_header(tensors=MAX_TENSORS + 1), id="too many tensors"),
        pytest.param(_header(text=MAX_TEXT + 1) + b"x" * (MAX_TEXT + 1), id="too much text"),
        pytest.param(_header(text=5), id="text missing"),
        pytest.param(_header() + b"x", id="bytes left over"),
        pytest.param(_header(status=99), id="unknown status"),
        pytest.param(_header(numbers=(math.nan, 0.0)), id="NaN"),
        pytest.param(_header(numbers=(0.0, math.inf)), id="infinity"),
        pytest.param(_header(numbers=(0.0, -1.0)), id="negative number"),
        pytest.param(_header(numbers=(1e300, 0.0)), id="number beyond integers"),
        pytest.param(_header(nodes=1) + struct.pack("<BBHi8s48s", 77, 0, 0, 0, b"", b""), id="unknown node"),
        pytest.param(
            _header(nodes=1) + struct.pack("<BBHi8s48s", 0, 0, 0, -1, b"", b""), id="minus one child"
        ),
        pytest.param(_header(nodes=1) + struct.pack("<BBHi8s48s", 5, 49, 0, 0, b"", b""), id="long string"),
        pytest.param(
            _header(nodes=1) + struct.pack("<BBHi8s48s", 5, 2, 0, 0, b"", b"\xff\xfe"), id="not UTF-8"
        ),
        pytest.param(_header(tensors=1) + _raw_tensor(dtype=len(DTYPES)), id="unknown dtype"),
        pytest.param(_header(tensors=1) + _raw_tensor(ndim=MAX_DIMS + 1), id="too many dimensions"),
        pytest.param(_header(tensors=1) + _raw_tensor(size=-1), id="negative size"),
        pytest.param(_header(tensors=1) + _raw_tensor(stride=-1), id="negative stride"),
        pytest.param(_header(tensors=1) + _raw_tensor(size=MAX_ELEMENTS + 1), id="larger than memory"),
    ],
)
def test_a_hostile_datagram_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_reply(data)


def test_a_zero_sized_tensor_whose_other_sizes_overflow_is_refused() -> None:
    record = TensorRecord("float32", (0, 2**62, 2**62), (1, 1, 1), 0, 0)
    with pytest.raises(ProtocolError):
        unpack_reply(pack_reply(Reply(1, Status.OK, tensors=(record,))))


@given(st.binary(max_size=2000) | st.binary(max_size=2000).map(lambda rest: _header()[:4] + rest))
@example(_header())
def test_random_bytes_are_a_reply_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        unpack_reply(data)


@given(_replies, st.data())
def test_a_reply_with_bytes_changed_is_a_reply_or_a_protocol_error(reply: Reply, data: st.DataObject) -> None:
    raw = bytearray(pack_reply(reply))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        unpack_reply(bytes(raw))


@given(_replies, st.data())
def test_a_truncated_reply_is_refused(reply: Reply, data: st.DataObject) -> None:
    raw = pack_reply(reply)
    with pytest.raises(ProtocolError):
        unpack_reply(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.integers(0, 2**50))
def test_alignment_rounds_up_to_the_next_multiple(offset: int) -> None:
    assert offset <= align(offset) < offset + 512
    assert align(offset) % 512 == 0
