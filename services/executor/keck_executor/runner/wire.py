"""The protocol between judge and runner: commands one way, fixed-size records the other.

Both ends of a SEQPACKET socket: one datagram is one message, copied by the kernel, so that nothing can change
under the reader. Commands (judge to runner) are JSON, for the judge is trusted. Replies are fixed-size,
bounds-checked records and capped bytes: the judge never unpickles, parses or prints what a runner says.

Reply datagram: header, then ``nodes`` of the value tree in preorder, then ``tensors``, then text::

    header  <IIIIII  magic, serial (the command's), status, number of nodes, of tensors, length of text
            <dd      two numbers (milliseconds by the runner's own events; bytes needed)
    node    <BBHi 8s 48s   kind, length of the string, zero, count or tensor index, scalar, string
    tensor  <BBHI  dtype, ndim, flags, zero;  8q sizes;  8q strides;  Q offset;  Q bytes;  64s handle
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "DTYPES",
    "FLAG_IN_PLACE",
    "MAX_DATAGRAM",
    "MAX_DIMS",
    "MAX_ELEMENTS",
    "MAX_NODES",
    "MAX_NUMBER",
    "MAX_STRING",
    "MAX_TENSORS",
    "MAX_TEXT",
    "Node",
    "NodeKind",
    "ProtocolError",
    "Reply",
    "Status",
    "TensorRecord",
    "align",
    "pack_reply",
    "unpack_reply",
]

MAX_DIMS = 8
MAX_NODES = 1024
MAX_TENSORS = 512
MAX_TEXT = 16 * 1024
MAX_STRING = 48
MAX_ELEMENTS = 1 << 48
"""Of one tensor, and of one dimension, zero-sized tensors included: no product of theirs leaves 64 bits."""
MAX_NUMBER = 2.0**53
ALIGNMENT = 512

_MAGIC = 0x4B45434B
_HEADER = struct.Struct("<6I2d")
_NODE = struct.Struct("<BBHi8s48s")
_TENSOR = struct.Struct("<BBHI8q8qQQ64s")
MAX_DATAGRAM = _HEADER.size + MAX_NODES * _NODE.size + MAX_TENSORS * _TENSOR.size + MAX_TEXT

# Codes on the wire are positions in this tuple: append only.
DTYPES: tuple[str, ...] = (
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool",
    "complex64", "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip

FLAG_IN_PLACE = 1
"""The tensor lies where `forward` put it; handle and offset say where. Else it was copied to the arena."""


class ProtocolError(Exception):
    """A message that no honest runner sends."""


class Status(IntEnum):
    """What became of a command."""

    OK = 0
    READY = 1
    """Burst: everything is enqueued behind the flag."""
    EXCEPTION = 2
    """User code raised; the text says what."""
    OUT_OF_MEMORY = 3
    NO_ROOM = 4
    """The arena is too small; the second number says how many bytes are needed."""
    UNSUPPORTED = 5
    """A value of a kind that cannot be judged; the text says which."""
    MISSING = 6
    """The source does not define what it must."""


class NodeKind(IntEnum):
    """Kinds of node in a value tree."""

    NONE = 0
    TENSOR = 1
    INT = 2
    FLOAT = 3
    BOOL = 4
    STRING = 5
    LIST = 6
    TUPLE = 7
    DICT = 8
    """`count` pairs of children, each a STRING key and a value."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a value tree, in preorder."""

    kind: NodeKind
    count: int = 0
    """Children of a container; index of a TENSOR."""
    scalar: bytes = b"\0" * 8
    text: str = ""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Where a tensor lies and what it looks like. Sizes and strides in elements, offset in bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    nbytes: int
    """Extent of the memory it spans."""
    flags: int = 0
    handle: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """A runner's answer to one command."""

    serial: int
    status: Status
    nodes: tuple[Node, ...] = ()
    tensors: tuple[TensorRecord, ...] = ()
    text: bytes = b""
    numbers: tuple[float, float] = field(default=(0.0, 0.0))


def align(offset: int) -> int:
    """The next multiple of 512 bytes, torch's own allocation granularity."""
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def pack_reply(reply: Reply) -> bytes:
    """The datagram of a reply; text is cut to what fits."""
    text = reply.text[:MAX_TEXT]
    parts = [
        _HEADER.pack(
            _MAGIC,
            reply.serial,
            reply.status,
            len(reply.nodes),
            len(reply.tensors),
            len(text),
            *reply.numbers,
        )
    ]
    parts += [_pack_node(node) for node in reply.nodes]
    parts += [_pack_tensor(tensor) for tensor in reply.tensors]
    return b"".join((*parts, text))


def _pack_node(node: Node) -> bytes:
    text = node.text.encode()
    return _NODE.pack(node.kind, len(text), 0, node.count, node.scalar, text)


def _pack_tensor(tensor: TensorRecord) -> bytes:
    pad = (0,) * (MAX_DIMS - len(tensor.shape))
    return _TENSOR.pack(
        DTYPES.index(tensor.dtype), len(tensor.shape), tensor.flags, 0,
        *tensor.shape, *pad, *tensor.strides, *pad, tensor.offset, tensor.nbytes, tensor.handle,
    )  # fmt: skip


def unpack_reply(data: bytes) -> Reply:
    """Read a reply that may come from hostile code.

    Raises:
        ProtocolError: anything in it is out of bounds.
    """
    if len(data) < _HEADER.size:
        raise ProtocolError("short reply")
    magic, serial, status, n_nodes, n_tensors, n_text, *numbers = _HEADER.unpack_from(data)
    if magic != _MAGIC or n_nodes > MAX_NODES or n_tensors > MAX_TENSORS or n_text > MAX_TEXT:
        raise ProtocolError("reply out of bounds")
    if not all(0.0 <= number <= MAX_NUMBER for number in numbers):  # written so that a NaN is refused
        raise ProtocolError("a number out of bounds")
    at_tensors = _HEADER.size + n_nodes * _NODE.size
    at_text = at_tensors + n_tensors * _TENSOR.size
    if len(data) != at_text + n_text:
        raise ProtocolError("reply of a wrong length")
    try:
        return Reply(
            serial=serial,
            status=Status(status),
            nodes=tuple(_unpack_node(n) for n in _NODE.iter_unpack(data[_HEADER.size : at_tensors])),
            tensors=tuple(_unpack_tensor(t) for t in _TENSOR.iter_unpack(data[at_tensors:at_text])),
            text=data[at_text:],
            numbers=(numbers[0], numbers[1]),
        )
    except (ValueError, IndexError) as error:
        raise ProtocolError("a record holds an unknown code") from error


def _unpack_node(fields: tuple[Any, ...]) -> Node:
    kind, length, _, count, scalar, text = fields
    if length > MAX_STRING or not 0 <= count <= MAX_NODES:
        raise ProtocolError("node out of bounds")
    return Node(NodeKind(kind), count, scalar, text[:length].decode("utf-8"))


def _unpack_tensor(fields: tuple[Any, ...]) -> TensorRecord:
    dtype, ndim, flags, _ = fields[:4]
    if ndim > MAX_DIMS:
        raise ProtocolError("too many dimensions")
    shape, strides = fields[4 : 4 + ndim], fields[4 + MAX_DIMS : 4 + MAX_DIMS + ndim]
    offset, nbytes, handle = fields[4 + 2 * MAX_DIMS :]
    if any(size < 0 for size in shape) or any(stride < 0 for stride in strides):
        raise ProtocolError("negative size or stride")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ProtocolError("a tensor larger than memory")
    return TensorRecord(DTYPES[dtype], shape, strides, offset, nbytes, flags, handle)
