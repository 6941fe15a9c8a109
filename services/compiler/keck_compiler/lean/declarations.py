"""What a preprocessed translation unit declares at namespace scope, and in which file.

Read as tokens, not parsed: a name too many costs an include or a fast build, never an outcome. The text is what
``g++ -E -dD`` prints, so that macros are seen where they are defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Declaration", "Unit", "read_unit"]


class Declaration(NamedTuple):
    """One name, where it is declared."""

    name: str
    """``operator`` for an operator; the template's name for a specialisation."""
    namespaces: tuple[str, ...]
    """Inline and anonymous ones left out: they are no part of how a name is found."""
    file: str
    kind: str
    """``macro``, ``namespace``, ``name``, ``forward`` (a class without its body), ``using`` (of a name from elsewhere, also an alias of a namespace),
    ``operator`` or ``specialisation``."""
    words: frozenset[str] = frozenset()
    """Identifiers an operator's or a specialisation's head mentions."""


@dataclass(slots=True)
class Unit:
    """What one translation unit shows."""

    declarations: set[Declaration] = field(default_factory=set)
    includers: dict[str, str] = field(default_factory=dict)
    """File to the file that included it first; the main file is not among the keys."""
    includes: dict[str, set[str]] = field(default_factory=dict)
    """File to the files it includes, as far as they were not skipped by an include guard."""
    words: set[str] = field(default_factory=set)
    """Every identifier that occurs anywhere, in macros and bodies too."""


_TOKEN = re.compile(
    r"""
      (?P<mark>^\#[^\n]*)
    | (?P<string>(?:\bu8|\b[uUL])?R"(?P<raw>[^()\\\s]{0,16})\((?s:.*?)\)(?P=raw)"|"(?:[^"\\\n]|\\.)*")
    | (?P<char>'(?:[^'\\\n]|\\.)*')
    | (?P<name>[A-Za-z_$][\w$]*)
    | (?P<number>\.?[0-9](?:[eEpP][+-]|[\w.']|)*)
    | (?P<punct>::|->|[^\s\w])
    """,
    re.VERBOSE | re.MULTILINE,
)
_MARK = re.compile(r'#\s*(?:line\s+)?\d+ "((?:[^"\\]|\\.)*)"((?: \d)*)')
_DEFINE = re.compile(r"#\s*define\s+([A-Za-z_]\w*)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_WITH_PARENTHESES = {"__attribute__", "decltype", "alignas", "noexcept", "asm", "__asm__", "throw", "explicit",
                     "requires", "__declspec", "static_assert", "_Static_assert", "typeof", "__typeof__"}  # fmt: skip
_CLASS_KEYS = {"class", "struct", "union", "enum"}
_NOT_NAMES = _WITH_PARENTHESES | {
    "const", "volatile", "constexpr", "inline", "static", "extern", "unsigned", "signed", "int", "long", "short",
    "char", "bool", "float", "double", "void", "auto", "typename", "final", "__inline", "__inline__", "__extension__",
    "__restrict", "public", "private", "protected", "virtual", "friend", "thread_local", "register", "mutable", "this",
    "class", "struct", "union", "enum", "using", "typedef", "namespace", "template", "return", "if", "else", "for",
    "while", "do", "switch", "case", "default", "break", "continue", "new", "delete", "sizeof", "operator", "true", "false",
}  # fmt: skip


def read_unit(text: str) -> Unit:
    """Read the output of ``g++ -E -dD``."""
    unit = Unit(words=set(_WORD.findall(text)))
    _Reader(text, unit).read()
    return unit


class _Reader:
    """Walks tokens once, with the namespaces it is in and the file it is in."""

    def __init__(self, text: str, unit: Unit) -> None:
        self._tokens = _TOKEN.finditer(text)
        self._unit = unit
        self._file = ""
        self._files: list[str] = []
        self._scopes: list[tuple[str, ...]] = []

    def read(self) -> None:
        """Everything, to the end of the text."""
        head: list[str] = []
        depth = 0
        for token in self._next():
            if token in "([":
                depth += 1
            elif token in ")]":
                depth -= 1
            elif depth <= 0 and token == ";":
                self._declare(head)
                head, depth = [], 0
                continue
            elif depth <= 0 and token == "}":
                if self._scopes:
                    self._scopes.pop()
                head, depth = [], 0
                continue
            elif depth <= 0 and token == "{":
                head = self._open(head)
                depth = 0
                continue
            elif token == "{":
                self._skip_braces()
                continue
            head.append(token)

    def _next(self) -> Iterator[str]:
        """Tokens besides line markers and directives, which are taken note of; a string is ``""``."""
        for match in self._tokens:
            kind = match.lastgroup
            if kind == "mark":
                self._directive(match[0])
            elif kind in ("string", "raw"):
                yield '""'
            elif kind == "char":
                yield "''"
            else:
                yield match[0]

    def _directive(self, line: str) -> None:
        if mark := _MARK.match(line):
            self._enter(mark[1], mark[2])
        elif define := _DEFINE.match(line):
            self._add(define[1], "macro", namespaces=())

    def _enter(self, file: str, flags: str) -> None:
        if "1" in flags.split():
            self._files.append(self._file)
            self._unit.includers.setdefault(file, self._file)
            self._unit.includes.setdefault(self._file, set()).add(file)
        elif "2" in flags.split() and self._files:
            self._files.pop()
        self._file = file

    def _skip_braces(self) -> list[str]:
        """To the brace that closes the one just read; the tokens of the outermost level in between."""
        depth, inside = 1, list[str]()
        for token in self._next():
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if not depth:
                    return inside
            elif depth == 1:
                inside.append(token)
        return inside

    def _open(self, head: list[str]) -> list[str]:
        """An opening brace at namespace scope: go in, or step over; what of the head goes on after it."""
        if "namespace" in head[:2] and "=" not in head:
            self._open_namespace(head)
            return []
        if head[:2] == ["extern", '""'] and len(head) == 2:
            self._scopes.append(())
            return []
        bare = _without_template(head)
        inside = self._skip_braces()
        if _top_level_call(bare) is not None:
            self._declare(head)
            return []
        if "enum" in bare[:2]:
            if not {"class", "struct"} & set(bare[:3]):
                for name in _enumerators(inside):
                    self._add(name, "name")
            self._declare(head, defined=True)
            return ["typedef"] if bare[0] == "typedef" else ["__extension__"]
        if any(key in bare for key in _CLASS_KEYS):
            self._declare(head, defined=True)
            # What follows may be a variable's name, or a typedef's.
            return ["typedef"] if bare[0] == "typedef" else ["__extension__"]
        return [*head, "{}"]

    def _open_namespace(self, head: list[str]) -> None:
        inline = head[0] == "inline"
        end = next((at for at, token in enumerate(head) if token in ("__attribute__", "[")), len(head))
        names = tuple(
            token for token in head[:end] if _is_name(token) and token not in ("namespace", "inline")
        )
        for at, name in enumerate(names):
            self._add(name, "namespace", namespaces=(*self._path(), *names[:at]))
        self._scopes.append(() if inline else names)

    def _path(self) -> tuple[str, ...]:
        return tuple(name for names in self._scopes for name in names)

    def _declare(self, head: Sequence[str], *, defined: bool = False) -> None:
        tokens = _without_template(head)
        if not tokens or tokens[0] in ("static_assert", "_Static_assert"):
            return
        if "operator" in tokens:
            self._add("operator", "operator", words=frozenset(filter(_is_name, tokens)))
            return
        if tokens[0] == "using":
            self._declare_using(tokens)
            return
        if tokens[0] == "namespace":  # an alias: what opens one comes with a brace
            self._add(tokens[1], "using")
            return
        call = _top_level_call(tokens)
        if call is None and any(token in _CLASS_KEYS for token in tokens) and tokens[0] != "typedef":
            self._declare_class(head, tokens, defined=defined)
            return
        for name in _declarators(tokens, call):
            self._add(name, "name")

    def _declare_using(self, tokens: Sequence[str]) -> None:
        if len(tokens) > 1 and tokens[1] == "namespace":
            return
        names = [token for token in tokens[1:] if _is_name(token) and token not in _NOT_NAMES]
        if not names:
            return
        if "=" in tokens:
            self._add(names[0], "name")
        else:
            self._add(names[-1], "using")

    def _declare_class(self, head: Sequence[str], tokens: Sequence[str], *, defined: bool) -> None:
        end = next((at for at, token in enumerate(tokens) if token in (":", "<", "{}", "=")), len(tokens))
        names = [token for token in tokens[:end] if _is_name(token) and token not in _NOT_NAMES | _CLASS_KEYS]
        if not names:
            return
        if end < len(tokens) and tokens[end] == "<" and head and head[0] == "template":
            words = frozenset(token for token in tokens[end:] if _is_name(token))
            self._add(names[-1], "specialisation", words=words)
        else:
            self._add(names[-1], "name" if defined else "forward")

    def _add(
        self,
        name: str,
        kind: str,
        *,
        namespaces: tuple[str, ...] | None = None,
        words: frozenset[str] = frozenset(),
    ) -> None:
        if name in _NOT_NAMES and kind != "operator":
            return
        path = self._path() if namespaces is None else namespaces
        self._unit.declarations.add(Declaration(name, path, self._file, kind, words))


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] in "_$"


def _without_template(head: Sequence[str]) -> list[str]:
    """The head without ``template <...>`` and without attributes in front."""
    at = 0
    while at < len(head):
        if head[at] == "template" and at + 1 < len(head) and head[at + 1] == "<":
            at = _after_angles(head, at + 1)
        elif head[at] == "[" and at + 1 < len(head) and head[at + 1] == "[":
            while at < len(head) and head[at] != "]":
                at += 1
            at += 2
        elif head[at] in ("__extension__", "inline", "extern", '""', "static"):
            at += 1
        elif (
            head[at] in _WITH_PARENTHESES
            and at + 1 < len(head)
            and head[at + 1] == "("
            and head[at] != "decltype"
        ):
            at = _after_parentheses(head, at + 1)
        else:
            break
    return list(head[at:])


def _after_angles(head: Sequence[str], at: int) -> int:
    depth = round_depth = 0
    while at < len(head):
        token = head[at]
        if token in "([":
            round_depth += 1
        elif token in ")]":
            round_depth -= 1
        elif round_depth == 0 and token == "<":
            depth += 1
        elif round_depth == 0 and token == ">":
            depth -= 1
        at += 1
        if depth == 0:
            break
    return at


def _after_parentheses(head: Sequence[str], at: int) -> int:
    depth = 0
    while at < len(head):
        depth += {"(": 1, ")": -1}.get(head[at], 0)
        at += 1
        if depth == 0:
            break
    return at


def _top_level_call(tokens: Sequence[str]) -> int | None:
    """Where the parenthesis of a function's parameters opens, if there is one before any ``=``."""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token in _WITH_PARENTHESES and at + 1 < len(tokens) and tokens[at + 1] == "(":
            at = _after_parentheses(tokens, at + 1)
            continue
        if token == "<" and at and _is_name(tokens[at - 1]):
            at = _after_angles(tokens, at)
            continue
        if token == "(":
            return at
        if token in ("=", "{}"):
            return None
        at += 1
    return None


def _declarators(tokens: Sequence[str], call: int | None) -> list[str]:
    """Names a function or variable declaration, or a typedef, introduces."""
    if call is not None and call + 1 < len(tokens) and tokens[call + 1] in ("*", "&"):
        pointer = next((token for token in tokens[call + 1 :] if _is_name(token) and token != "const"), None)
        return [pointer] if pointer else []
    end = call if call is not None else len(tokens)
    if call is None:
        stops = ("=", "[", "{}", ":")
        end = next((at for at, token in enumerate(tokens) if token in stops), len(tokens))
    before = _without_angles(tokens[:end])
    if before and before[-1] == ">":  # a specialisation of a function template: its name is there already
        return []
    if len(before) > 1 and before[-2] == "::":
        return []
    if not before or not _is_name(before[-1]) or before[-1] in _NOT_NAMES:
        return []
    names = [before[-1]]
    if call is None:
        names += [
            before[at - 1] for at, token in enumerate(before) if token == "," and _is_name(before[at - 1])
        ]
    return names


def _without_angles(tokens: Sequence[str]) -> list[str]:
    """Template arguments left out, besides those that end the text: they show that it is a specialisation."""
    kept: list[str] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == "<" and kept and _is_name(kept[-1]):
            after = _after_angles(tokens, at)
            if after < len(tokens):
                at = after
                continue
        kept.append(tokens[at])
        at += 1
    return kept


def _enumerators(inside: Sequence[str]) -> Iterator[str]:
    fresh = True
    for token in inside:
        if fresh and _is_name(token):
            yield token
        fresh = token == ","
