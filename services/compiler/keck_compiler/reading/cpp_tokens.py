"""C++ and CUDA text as tokens: comments gone, strings and raw strings whole, lines kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Token", "cpp_tokens"]

Kind = Literal["name", "number", "string", "char", "punct", "include", "paste"]


class Token(NamedTuple):
    """One token; `text` of a string is what stands between its quotes, of an include the header's name."""

    kind: Kind
    text: str
    line: int


_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<name>[^\W\d][\w$]*)
    | (?P<number>\.?[0-9](?:[eEpP][+-]|'(?=\w)|[\w.])*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"?)
    | (?P<char>'(?:[^'\\\n]|\\.)*'?)
    | (?P<paste>\#\#|%:%:)
    | (?P<punct><<<|>>>|::|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r"#[ \t]*(?:include|include_next|import)[ \t]*(?:<([^>\n]*)>|\"([^\"\n]*)\")")
_RAW = re.compile(r'"([^()\\\s"]{0,16})\(')
_RAW_PREFIXES = ("R", "LR", "uR", "UR", "u8R")


def cpp_tokens(text: str) -> Iterator[Token]:
    """The tokens of a text that need not be C++: whatever stands there, it takes linear time."""
    text = _without_splices(text)
    at, line, fresh = 0, 1, True
    while at < len(text):
        if text.startswith(("//", "/*"), at):
            end = _end_of_comment(text, at)
            line += text.count("\n", at, end)
            at = end
            continue
        if fresh and text[at] == "#" and (include := _INCLUDE.match(text, at)):
            yield Token("include", include[1] or include[2] or "", line)
            at, fresh = include.end(), False
            continue
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternative takes any letter
        kind, found, end = match.lastgroup, match[0], match.end()
        if kind == "name" and found in _RAW_PREFIXES and (raw := _RAW.match(text, end)):
            close = text.find(f'){raw[1]}"', raw.end())
            end = len(text) if close < 0 else close + len(raw[1]) + 2
            kind, found = "string", text[raw.end() : end if close < 0 else close]
        elif kind in ("string", "char"):
            found = found[1:].removesuffix(found[0])
        if kind == "space":
            fresh = fresh or "\n" in found
        else:
            yield Token(kind, found, line)  # type: ignore[arg-type]  # the names of the groups are the kinds
            fresh = False
        line += text.count("\n", at, end)
        at = end


def _end_of_comment(text: str, at: int) -> int:
    close, length = ("\n", 0) if text[at + 1] == "/" else ("*/", 2)
    end = text.find(close, at + 2)
    return len(text) if end < 0 else end + length


def _without_splices(text: str) -> str:
    """Lines that end with a backslash joined with the next, as many line feeds later as were taken out."""
    if "\\\n" not in text and "\\\r\n" not in text:
        return text
    parts, held = [], 0
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.endswith("\\"):
            parts.append(line[:-1])
            held += 1
        else:
            parts.append(line + "\n" * (held + 1))
            held = 0
    return "".join(parts)
