"""The candidate in a model's answer.

The rule, in order:

1. What comes before the last ``</think>`` is thought, not answer. A ``<think>`` that is not closed leaves no answer.
2. A block begins with a line of three or more backticks or tildes, which may name a language, and ends with a line of
   at least as many of the same. One that does not end was cut off: there is no candidate.
3. Blocks in ``python``, ``py`` or ``python3`` count; where there are none, those that name no language.
4. Of these, those that define the class (``ModelNew``) count; where none does, all of them.
5. ``last`` and ``first`` take that one. ``only`` takes the one there is. ``all`` joins all that counted in step 3, and
   the class must be defined in one of them alone.
6. An answer without any block is taken as it is if it is Python that defines the class.

Whatever is not decided by this is a ``format_error``, which is the model's own and is not sent to Keck.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

__all__ = ["Extracted", "Which", "candidate_in"]

Which = Literal["last", "first", "only", "all"]

_THOUGHT_BEGINS: Final = "<think>"
_THOUGHT_ENDS: Final = "</think>"
_PYTHON: Final = frozenset({"python", "py", "python3"})
_BEGIN: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*")
_CLASSES: Final = ("ModelNew",)


class Extracted(NamedTuple):
    """A candidate, or why there is none."""

    source: str
    problem: str = ""
    """One sentence; empty if there is a candidate."""


class _Block(NamedTuple):
    language: str
    text: str
    is_closed: bool


def candidate_in(text: str, which: Which = "last", *, classes: tuple[str, ...] = _CLASSES) -> Extracted:
    """Find the candidate by the rule of this module.

    Args:
        text: a model's answer, without the prompt.
        which: of several blocks.
        classes: one of these is the class under test.
    """
    answer = _without_thought(text)
    if answer is None:
        return _none("the answer was cut off while the model still thought: no </think>")
    blocks = list(_blocks(answer))
    if not blocks:
        if _defines(answer, classes):
            return Extracted(answer.strip() + "\n")
        return _none(f"the answer has no code block, and is no Python that defines {_listed(classes)}")
    if not blocks[-1].is_closed:
        return _none("the last code block is not closed: the answer was cut off")
    named = [block.text for block in blocks if block.language in _PYTHON]
    counted = named or [block.text for block in blocks if not block.language]
    if not counted:
        languages = ", ".join(sorted({block.language for block in blocks}))
        return _none(f"no code block is Python; there is {languages}")
    return _chosen(counted, which, classes)


def _chosen(counted: list[str], which: Which, classes: tuple[str, ...]) -> Extracted:
    defining = [text for text in counted if _defines(text, classes)]
    if which == "all":
        if len(defining) > 1:
            return _none(f"{len(defining)} code blocks define {_listed(classes)}: joined, the last would win")
        return Extracted("\n\n".join(counted))
    eligible = defining or counted
    if which == "only" and len(eligible) > 1:
        return _none(f"{len(eligible)} code blocks could be meant; exactly one is wanted")
    return Extracted(eligible[0] if which == "first" else eligible[-1])


def _without_thought(text: str) -> str | None:
    """What follows the last thought; None if a thought is not closed."""
    _, _, after = text.rpartition(_THOUGHT_ENDS)
    return None if _THOUGHT_BEGINS in after else after


def _blocks(text: str) -> Iterator[_Block]:
    fence, language, lines = "", "", list[str]()
    for line in text.split("\n"):
        if fence:
            stripped = line.strip()
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                yield _Block(language, "\n".join(lines) + "\n", is_closed=True)
                fence = ""
            else:
                lines.append(line)
        elif begin := _BEGIN.fullmatch(line.rstrip("\r")):
            fence, language, lines = begin[1], begin[2].lower(), []
    if fence:
        yield _Block(language, "\n".join(lines), is_closed=False)


def _defines(text: str, classes: tuple[str, ...]) -> bool:
    return any(re.search(rf"^class[ \t]+{re.escape(name)}\b", text, re.MULTILINE) for name in classes)


def _listed(classes: tuple[str, ...]) -> str:
    return " or ".join(classes)


def _none(problem: str) -> Extracted:
    return Extracted("", problem)
