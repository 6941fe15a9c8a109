"""C++ as tokens, whatever stands in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keck_compiler.reading.cpp_tokens import Token, cpp_tokens


def _texts(source: str) -> list[str]:
    return [token.text for token in cpp_tokens(source)]


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        ("a // at::matmul\nb", ["a", "b"]),
        ("a /* at::matmul\n */ b /* open", ["a", "b"]),
        ("a // a comment that goes \\\n on\nb", ["a", "b"]),
        ('x = "// no comment" + y', ["x", "=", "// no comment", "+", "y"]),
        (r'"a \" b" c', [r"a \" b", "c"]),
        ("'\"' a '\\'' b", ['"', "a", "\\'", "b"]),
        ('"open\nnext', ["open", "next"]),
        ('R"(a " // b)" c', ['a " // b', "c"]),
        ('u8R"x(a )" )x" c', ['a )" ', "c"]),
        ('R"(never closed', ["never closed"]),
        ("k<<<grid, 1>>>(a->b)", ["k", "<<<", "grid", ",", "1", ">>>", "(", "a", "->", "b", ")"]),
        ("1'000'000 + 1e+5f + .5", ["1'000'000", "+", "1e+5f", "+", ".5"]),
        ("at::mat\\\nmul(x)", ["at", "::", "matmul", "(", "x", ")"]),
        ("größe", ["größe"]),
    ],
)
def test_text_is_taken_apart(source: str, tokens: list[str]) -> None:
    assert _texts(source) == tokens


def test_headers_and_pasting_are_tokens_of_their_own() -> None:
    source = '#include <cublas_v2.h>\n  # include "own.h"\n#define J(a, b) a ## b\nx = "#include <no.h>";'
    told = [token for token in cpp_tokens(source) if token.kind in ("include", "paste")]
    assert told == [Token("include", "cublas_v2.h", 1), Token("include", "own.h", 2), Token("paste", "##", 3)]


def test_lines_are_those_of_the_text() -> None:
    source = 'a\n/* \n\n */ b "x\\\ny" c\nR"(\n\n)" d'
    lines = {token.text: token.line for token in cpp_tokens(source) if token.kind == "name"}
    assert lines == {"a": 1, "b": 4, "c": 4, "d": 8}


_PIECES = st.sampled_from(
    ["/*", "*/", "//", "\n", "\\\n", '"', "'", 'R"(', ')"', "R", "#include <", ">", "##", "<<<", "at::", "x", "0", "\\", " ", "(", "\r\n", "é", "\x00"]
)  # fmt: skip


@given(st.lists(_PIECES | st.text(max_size=3), max_size=40).map("".join))
def test_any_text_has_tokens_within_its_lines(source: str) -> None:
    tokens = list(cpp_tokens(source))
    assert [token.line for token in tokens] == sorted(token.line for token in tokens)
    assert all(1 <= token.line <= source.count("\n") + 1 for token in tokens)


@given(st.lists(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), max_size=20), st.lists(st.sampled_from([" ", "\n", "/**/", "//x\n", "\t"]), min_size=20))  # fmt: skip
def test_names_are_found_whatever_stands_between_them(names: list[str], gaps: list[str]) -> None:
    source = "".join(name + gap for name, gap in zip(names, gaps, strict=False))
    assert _texts(source) == names
