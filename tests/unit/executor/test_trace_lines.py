"""Lines of a trace: what was packed is read, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keck_executor.runner.trace_lines import MAX_LINES, TraceLine, pack_trace, unpack_trace
from keck_executor.runner.wire import MAX_TEXT, ProtocolError

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
LINES = st.builds(
    TraceLine,
    kind=st.sampled_from("KOC"),
    count=st.integers(0, 10**15 - 1),
    nanoseconds=st.integers(0, 10**15 - 1),
    name=PRINTABLE,
    launched_by=PRINTABLE,
)


@given(st.lists(LINES, max_size=30))
def test_lines_are_read_as_they_were_packed_longest_first(lines: list[TraceLine]) -> None:
    assert list(unpack_trace(pack_trace(lines))) == sorted(lines, key=lambda line: -line.nanoseconds)


@given(st.text(), st.integers(-5, 5))
def test_names_of_any_text_can_be_packed(name: str, nanoseconds: int) -> None:
    (line,) = unpack_trace(pack_trace([TraceLine("K", 1, nanoseconds, name, name)]))
    assert len(line.name) <= 200


def test_too_many_lines_are_cut_where_they_took_least() -> None:
    lines = [TraceLine("O", 1, number, f"aten::{number}") for number in range(2 * MAX_LINES)]
    packed = pack_trace(lines)
    assert len(packed) <= MAX_TEXT
    kept = unpack_trace(packed)
    assert len(kept) == MAX_LINES
    assert kept[0].nanoseconds == 2 * MAX_LINES - 1
    assert len(pack_trace([TraceLine("K", 1, 1, "x" * 200, "y" * 200)] * 200)) <= MAX_TEXT


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"K 1 1\tname\t",
        b"X 1 1\tname\t\n",
        b"K -1 1\tname\t\n",
        b"K 1 1 \tname\t\n",
        b"K 1\tname\t\n",
        b"K 1 1\tname\t\t\n",
        b"K 1 1\tname\n",
        b"K " + b"9" * 16 + b" 1\tname\t\n",
        b"K 1 1\tna\x7fme\t\n",
        b"K 1 1\tna\xc3\xa9\t\n",
        b"K 1 1\t" + b"x" * 201 + b"\t\n",
        b"K 1 1\tn\t\n" * (MAX_LINES + 1),
        "K \u0661 1\tn\t\n".encode(),
    ],
)
def test_what_is_no_trace_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_trace(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        lines = unpack_trace(data)
    except ProtocolError:
        return
    assert pack_trace(lines) == b"" if not data else lines
