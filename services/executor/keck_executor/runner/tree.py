"""Values as trees: nested lists, tuples and dicts of tensors and scalars, flattened for the wire and rebuilt.

Pure but for `torch.Tensor`'s type. The JSON form of a tree (judge to runner) is a list of nodes with the same
fields as the binary one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from keck_executor.runner.wire import (
    DTYPES,
    MAX_DIMS,
    MAX_NODES,
    MAX_STRING,
    MAX_TENSORS,
    Node,
    NodeKind,
)

__all__ = [
    "Unsupported",
    "dtype_name",
    "fills_its_extent",
    "flatten",
    "nodes_from_json",
    "nodes_to_json",
    "rebuild",
]

_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_MAX_DEPTH = 16


class Unsupported(Exception):
    """A value that cannot be judged; the message says which and what would do."""


def flatten(value: object, *, sort_keys: bool = False) -> tuple[tuple[Node, ...], list[torch.Tensor]]:
    """A value's tree in preorder, and its tensors in the order of their indices.

    Args:
        sort_keys: walk dicts in the order of their keys, so that equal outputs have equal trees. Inputs keep
            the order that `get_inputs` gave them.

    Raises:
        Unsupported: a leaf is no tensor, number, bool, short string or None, or there are too many.
    """
    nodes: list[Node] = []
    tensors: list[torch.Tensor] = []
    _walk(value, nodes, tensors, 0, sort_keys)
    if len(nodes) > MAX_NODES or len(tensors) > MAX_TENSORS:
        raise Unsupported(f"more than {MAX_NODES} values or {MAX_TENSORS} tensors")
    return tuple(nodes), tensors


def _walk(  # noqa: PLR0912
    value: object, nodes: list[Node], tensors: list[torch.Tensor], depth: int, sort_keys: bool
) -> None:
    if depth > _MAX_DEPTH or len(nodes) > MAX_NODES:
        raise Unsupported("values nested too deeply, or too many of them")
    match value:
        case None:
            nodes.append(Node(NodeKind.NONE))
        case torch.Tensor():
            nodes.append(Node(NodeKind.TENSOR, len(tensors)))
            tensors.append(_plain(value))
        case bool():
            nodes.append(Node(NodeKind.BOOL, scalar=_INT64.pack(value)))
        case int():
            if not -(2**63) <= value < 2**63:
                raise Unsupported("an int beyond 64 bits")
            nodes.append(Node(NodeKind.INT, scalar=_INT64.pack(value)))
        case float():
            nodes.append(Node(NodeKind.FLOAT, scalar=_DOUBLE.pack(value)))
        case str():
            nodes.append(_string(value))
        case list() | tuple():
            kind = NodeKind.LIST if isinstance(value, list) else NodeKind.TUPLE
            nodes.append(Node(kind, len(value)))
            for item in value:
                _walk(item, nodes, tensors, depth + 1, sort_keys)
        case dict():
            nodes.append(Node(NodeKind.DICT, len(value)))
            for key, item in sorted(value.items(), key=_key) if sort_keys else value.items():
                if not isinstance(key, str):
                    raise Unsupported("a dict key that is no string")
                nodes.append(_string(key))
                _walk(item, nodes, tensors, depth + 1, sort_keys)
        case _:
            raise Unsupported(
                f"a value of type {type(value).__name__}: tensors, numbers, bools, strings, None, "
                "and lists, tuples and dicts of them can be judged"
            )


def _key(item: tuple[object, object]) -> str:
    return item[0] if isinstance(item[0], str) else ""


def _string(text: str) -> Node:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise Unsupported("a string that is not valid Unicode text") from None
    if length > MAX_STRING:
        raise Unsupported(f"a string of more than {MAX_STRING} bytes")
    return Node(NodeKind.STRING, text=text)


def dtype_name(dtype: torch.dtype) -> str:
    """As records and commands have it: ``float32``."""
    return str(dtype).removeprefix("torch.")


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise Unsupported("a sparse or quantised tensor")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise Unsupported(f"a tensor of the subclass {type(tensor).__name__}")
    dtype = dtype_name(tensor.dtype)
    if dtype not in DTYPES:
        raise Unsupported(f"a tensor of {dtype}")
    if tensor.dim() > MAX_DIMS:
        raise Unsupported(f"a tensor of more than {MAX_DIMS} dimensions")
    return tensor.detach()


def fills_its_extent(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements laid out like this neither overlap nor leave gaps: a permutation of a contiguous tensor."""
    step = 1
    for stride, size in sorted(
        (stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1
    ):
        if stride != step:
            return False
        step *= size
    return True


def rebuild(nodes: Sequence[Node], tensors: Sequence[torch.Tensor]) -> Any:
    """The value that a tree describes, with these tensors in it.

    Raises:
        ValueError: the nodes are no tree.
    """
    walk = iter(nodes)
    value = _build(walk, tensors, 0)
    if next(walk, None) is not None:
        raise ValueError("nodes left over")
    return value


def _build(walk: Iterator[Node], tensors: Sequence[torch.Tensor], depth: int) -> Any:  # noqa: PLR0911
    node = next(walk, None)
    if node is None:
        raise ValueError("nodes missing")
    if depth > _MAX_DEPTH:
        raise ValueError("nodes nested too deeply")
    match node.kind:
        case NodeKind.NONE:
            return None
        case NodeKind.TENSOR:
            if not 0 <= node.count < len(tensors):
                raise ValueError("a tensor that is not there")
            return tensors[node.count]
        case NodeKind.BOOL:
            return bool(_INT64.unpack(node.scalar)[0])
        case NodeKind.INT:
            return _INT64.unpack(node.scalar)[0]
        case NodeKind.FLOAT:
            return _DOUBLE.unpack(node.scalar)[0]
        case NodeKind.STRING:
            return node.text
        case NodeKind.LIST:
            return [_build(walk, tensors, depth + 1) for _ in range(node.count)]
        case NodeKind.TUPLE:
            return tuple(_build(walk, tensors, depth + 1) for _ in range(node.count))
        case NodeKind.DICT:
            return {_key_of(walk): _build(walk, tensors, depth + 1) for _ in range(node.count)}


def _key_of(walk: Iterator[Node]) -> str:
    node = next(walk, None)
    if node is None or node.kind is not NodeKind.STRING:
        raise ValueError("a dict key that is no string")
    return node.text


def nodes_to_json(nodes: Sequence[Node]) -> list[list[Any]]:
    """Nodes for a command."""
    return [[int(node.kind), node.count, node.scalar.hex(), node.text] for node in nodes]


def nodes_from_json(rows: Sequence[Sequence[Any]]) -> tuple[Node, ...]:
    """Nodes out of a command.

    Raises:
        ValueError: they are none.
    """
    nodes = tuple(
        Node(NodeKind(kind), count, bytes.fromhex(scalar), text) for kind, count, scalar, text in rows
    )
    if any(len(node.scalar) != _INT64.size for node in nodes):
        raise ValueError("a scalar of a wrong size")
    return nodes
