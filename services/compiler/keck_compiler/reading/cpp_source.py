"""What the C++ and CUDA texts of one extension show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from keck.messages import Finding, Reading
from keck_compiler.reading.cpp_tokens import Token, cpp_tokens
from keck_compiler.reading.limits import MAX_FILE, bounded, shown
from keck_compiler.reading.vocabulary import (
    COMPUTING,
    COMPUTING_METHODS,
    CPP_INTROSPECTION,
    CPP_LOW_TYPES,
    LIBRARY_CALL,
    LIBRARY_HEADER,
)

__all__ = ["read_cpp"]

_MAX_HEAD = 64
"""Tokens from ``__global__`` to the kernel's name, launch bounds included."""
_MAX_CHAIN = 8
_ATTRIBUTES = ("__launch_bounds__", "__cluster_dims__", "__maxnreg__", "__attribute__", "alignas")
_REGISTRATIONS = ("TORCH_LIBRARY", "TORCH_LIBRARY_FRAGMENT", "TORCH_LIBRARY_IMPL")


def read_cpp(texts: Sequence[tuple[str, str]], *, low_types: bool, line_offset: int = 0) -> Reading:
    """Findings and names of one extension's texts (file, text), read together: one may launch another's kernels.

    Args:
        texts: its files.
        low_types: the reference uses types of low precision itself, so that they mean nothing here.
        line_offset: added to lines, for a text that stands within another.
    """
    files = [_File(name, text, line_offset) for name, text in texts]
    kernels = [kernel for file in files for kernel in file.kernels()]
    findings = [finding for file in files for finding in file.findings(low_types=low_types)]
    findings += _never_launched(files, kernels)
    return bounded(
        Reading(
            findings=findings,
            kernels=[token.text for _, token in kernels],
            namespaces=[name for file in files for name in file.namespaces()],
            library_calls=[token.text for file in files for token in file.library_calls()],
        )
    )


class _File:
    """One text, tokenised."""

    def __init__(self, name: str, text: str, line_offset: int) -> None:
        self.name = name[:MAX_FILE]
        self.tokens = list(cpp_tokens(text))
        self._lines = text.splitlines()
        self._offset = line_offset

    def findings(self, *, low_types: bool) -> Iterator[Finding]:
        places = set()
        for index, token in enumerate(self.tokens):
            code = self._code(index, token, low_types=low_types)
            if code and (code, token.line) not in places:
                places.add((code, token.line))
                yield self.finding(code, token)
        for token in self._caught():
            yield self.finding("fallback.try_except", token)

    def finding(self, code: str, token: Token) -> Finding:
        line = self._lines[token.line - 1] if token.line <= len(self._lines) else ""
        return Finding(
            code=code,
            file=self.name,
            line=token.line + self._offset,
            snippet=shown(line) or shown(token.text),
        )

    def kernels(self) -> Iterator[tuple[_File, Token]]:
        """The name of each ``__global__`` function where it is declared or defined."""
        for index, token in enumerate(self.tokens):
            if token.text == "__global__" and token.kind == "name":
                name = self._kernel_name(index + 1)
                if name is not None:
                    yield self, name

    def namespaces(self) -> Iterator[str]:
        for index, token in enumerate(self.tokens):
            if token.text in _REGISTRATIONS and self._next_is(index, "("):
                following = self.tokens[index + 2 : index + 3]
                yield from (name.text for name in following if name.kind == "name")

    def library_calls(self) -> Iterator[Token]:
        for index, token in enumerate(self.tokens):
            if token.kind == "name" and LIBRARY_CALL.fullmatch(token.text) and self._next_is(index, "("):
                yield token

    def _code(self, index: int, token: Token, *, low_types: bool) -> str:
        if token.kind == "name":
            return self._code_of_name(index, token, low_types=low_types)
        if token.kind == "include" and LIBRARY_HEADER.match(token.text):
            return "delegation.library"
        return "introspection" if token.kind == "paste" else ""  # pasted names no reader of tokens sees

    def _code_of_name(self, index: int, token: Token, *, low_types: bool) -> str:
        called = self._next_is(index, "(")
        if called and LIBRARY_CALL.fullmatch(token.text):
            return "delegation.library"
        if self._computes(index, token, called=called):
            return "delegation.aten"
        if called and token.text in CPP_INTROSPECTION:
            return "introspection"
        return "precision.low_types" if token.text in CPP_LOW_TYPES and not low_types else ""

    def _computes(self, index: int, token: Token, *, called: bool) -> bool:
        """``at::matmul``, ``torch::nn::functional::relu``, ``at::_ops::mm::call``, ``x.matmul(``."""
        if token.kind != "name":
            return False
        before = self.tokens[index - 1].text if index else ""
        if token.text in ("at", "torch") and before != "::" and self._next_is(index, "::"):
            chain = self._chain(index + 2)
            return bool(chain) and (chain[-1] in COMPUTING or (chain[-1] == "call" and "_ops" in chain))
        return called and before in (".", "->") and token.text in COMPUTING_METHODS

    def _chain(self, index: int) -> list[str]:
        names = []
        for token, separator in zip(
            self.tokens[index : index + 2 * _MAX_CHAIN : 2],
            [*self.tokens[index + 1 : index + 1 + 2 * _MAX_CHAIN : 2], Token("punct", "", 0)],
            strict=False,
        ):
            if token.kind != "name":
                break
            names.append(token.text)
            if separator.text != "::":
                break
        return names

    def _kernel_name(self, index: int) -> Token | None:
        last: Token | None = None
        depth = 0
        for token in self.tokens[index : index + _MAX_HEAD]:
            if depth:
                depth += (token.text == "(") - (token.text == ")")
            elif token.text == "(" and last is not None and last.text in _ATTRIBUTES:
                depth = 1
            elif token.text == "(":
                return last
            elif token.kind == "name":
                last = token
        return None

    def _caught(self) -> Iterator[Token]:
        """``catch`` blocks in which torch computes."""
        depth, opened = 0, list[tuple[int, Token]]()
        pending: Token | None = None
        for index, token in enumerate(self.tokens):
            if token.kind == "name" and token.text == "catch":
                pending = token
            elif token.text == "{" and token.kind == "punct":
                depth += 1
                if pending is not None:
                    opened.append((depth, pending))
                    pending = None
            elif token.text == "}" and token.kind == "punct":
                if opened and opened[-1][0] == depth:
                    opened.pop()
                depth -= 1
            elif opened and self._computes(index, token, called=self._next_is(index, "(")):
                yield opened[-1][1]

    def _next_is(self, index: int, text: str) -> bool:
        return index + 1 < len(self.tokens) and self.tokens[index + 1].text == text


def _never_launched(files: Iterable[_File], kernels: Sequence[tuple[_File, Token]]) -> Iterator[Finding]:
    """Kernels named nowhere but where they are declared; a name in a string may be how it is looked up."""
    named = Counter(token.text for file in files for token in file.tokens if token.kind in ("name", "string"))
    named.subtract(token.text for _, token in kernels)
    seen = set()
    for file, token in kernels:
        if named[token.text] <= 0 and token.text not in seen:
            seen.add(token.text)
            yield file.finding("provenance.decoy_kernel", token)
