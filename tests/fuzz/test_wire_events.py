"""Bytes on the bus: an event of the expected type or `BadRequest`, and nothing else comes out of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from keck.dead_letters import verdict_on_unreadable
from keck.errors import BadRequest
from keck.messages import (
    CheckProgress,
    CheckRequested,
    CompileDone,
    EvalDone,
    Heartbeat,
    decode,
    encode,
    to_json,
)
from keck_gateway.bodies import CheckBody
from keck_gateway.nats_service import _decoded

GOLDEN = Path(__file__).parents[1] / "contract" / "golden" / "v1"
TYPES = {
    kind.__struct_config__.tag: kind
    for kind in (CheckRequested, CompileDone, EvalDone, CheckProgress, Heartbeat)
}
BYTES = [path.read_bytes() for path in sorted(GOLDEN.glob("*.msgpack"))]
EVENTS = [msgspec.msgpack.decode(data) for data in BYTES]
REQUEST = next(data for data, event in zip(BYTES, EVENTS, strict=True) if event["type"] == "check.requested")

_INTERESTING = st.sampled_from(
    [
        0, -1, 1, 255, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, float("nan"), float("inf"),
        float("-inf"), "", "\n", "a.b", "*", ">", "\0", "a" * 65, "é", "default\n", True, None, [], {}, b"", b"\xff",
    ]
)  # fmt: skip
_VALUES = st.recursive(
    _INTERESTING
    | st.text(max_size=20)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.just(__import__("datetime").timezone.utc)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(-9, 9), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
_SPLICES = st.one_of(
    st.binary(max_size=16),
    st.sampled_from(
        [
            b"\xa3\xff\xfe\xfd",  # a string that is not UTF-8
            b"\x91" * 3_000,  # nested deeper than a stack
            b"\x81\xa1a" * 3_000,
            b"\xdd\xff\xff\xff\xff",  # four thousand million items announced
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xc1",
            b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp beyond the calendar
        ]
    ),
)


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """A golden event with bytes changed, cut, doubled or spliced in."""
    data = bytearray(draw(st.sampled_from(BYTES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "insert", "drop", "double"))):
            case "flip" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(_SPLICES)
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data += data[at:]
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, inner in items for found in _places(inner, (*path, key))]


PLACES = [(number, place) for number, event in enumerate(EVENTS) for place in _places(event)]


@st.composite
def mutated_fields(draw: st.DrawFn) -> bytes:
    """A golden event with values of any kind in some of its fields, at any depth."""
    number, place = draw(st.sampled_from(PLACES))
    event = copy.deepcopy(EVENTS[number])
    others = [path for other, path in PLACES if other == number]
    for path in (place, *draw(st.lists(st.sampled_from(others), max_size=2))):
        inner = event
        for key in path[:-1]:
            inner = inner[key] if isinstance(inner, dict) and key in inner else {}
        if isinstance(inner, dict):
            inner[path[-1]] = draw(_VALUES)
    return msgspec.msgpack.encode(event)


KNOWN = [
    # A string that is not UTF-8 left as UnicodeDecodeError: a consumer took it for a failure of its own and
    # had the message delivered again until the server gave it up, without a verdict.
    REQUEST.replace(b"ModelNew", b"\xff\xfe\xfd\xfc\xff\xff\xff\xff"),
    # Nested deeper than the stack left as RecursionError.
    REQUEST[:-1] + b"\x91" * 5_000,
    b"\x91" * 5_000,
    b"\x82\xa4type\xafcheck.requested\xa1x" + b"\x91" * 5_000 + b"\xc0",
]


def check(data: bytes) -> None:
    """Every type may be expected of any bytes."""
    for kind in TYPES.values():
        try:
            event = decode(data, kind)
        except BadRequest as error:
            assert len(str(error)) < 2_000, "the reason goes into a header, a log line and a verdict"
            continue
        assert type(event) is kind
        again = encode(event)
        assert encode(decode(again, kind)) == again
        shown = json.loads(to_json(event))
        assert shown["type"] == kind.__struct_config__.tag


@pytest.mark.fuzz(share=2)
def test_events_with_bytes_changed(fuzz):
    fuzz(mutated_bytes(), check, known=KNOWN, examples=300)


@pytest.mark.fuzz(share=2)
def test_events_with_fields_changed(fuzz):
    fuzz(mutated_fields(), check, examples=300)


def test_bytes_that_were_never_an_event(fuzz):
    random = st.binary(max_size=300) | _VALUES.map(msgspec.msgpack.encode) | _SPLICES
    fuzz(random, check, examples=200)


class _Message:
    """As much of a message as the verdict on an unreadable one is made of."""

    def __init__(self, subject: str, data: bytes) -> None:
        self.subject = subject
        self.data = data


def test_an_unreadable_message_always_has_its_verdict(fuzz):
    tokens = st.text(st.characters(codec="utf-8", exclude_characters=" .\r\n\t"), min_size=1, max_size=70)
    names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
    given_names = st.tuples(names | tokens, names | tokens)

    def check_verdict(drawn: tuple[tuple[str, str], bytes]) -> None:
        (run, check_id), data = drawn
        message: Any = _Message(f"check.requested.bulk.{run}.{check_id}", data)
        verdict = verdict_on_unreadable(message, "why " * 2)
        if verdict is not None:
            assert decode(encode(verdict), EvalDone) == verdict

    fuzz(
        st.tuples(given_names, mutated_bytes() | mutated_fields() | st.binary(max_size=40)),
        check_verdict,
        # The generation is looked for in the same bytes, and met the same exceptions.
        known=[(("run", "id"), data) for data in KNOWN],
    )


@st.composite
def request_bodies(draw: st.DrawFn) -> tuple[bytes, bool]:
    body: dict[str, Any] = {"candidate": "class ModelNew: ...", "reference": "class Model: ..."}
    body |= draw(st.dictionaries(st.sampled_from(CheckBody.__struct_fields__), _VALUES, max_size=4))
    is_json = draw(st.booleans())
    data = bytearray(msgspec.json.encode(body) if is_json and _is_json(body) else msgspec.msgpack.encode(body))
    at = draw(st.integers(0, len(data)))
    data[at:at] = draw(st.just(b"") | _SPLICES | st.sampled_from([b"[" * 5_000, b'"\\ud800"', b"9" * 5_000]))
    return bytes(data), is_json


def _is_json(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (msgspec.MsgspecError, TypeError, OverflowError):
        return False
    return True


def test_requests_that_are_answered_over_the_bus(fuzz):
    def check_body(drawn: tuple[bytes, bool]) -> None:
        data, is_json = drawn
        try:
            body = _decoded(data, is_json=is_json)
        except BadRequest:
            return
        assert isinstance(body, CheckBody)

    fuzz(request_bodies(), check_body)
