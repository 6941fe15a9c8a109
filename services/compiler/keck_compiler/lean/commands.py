"""The compile flags torch uses, read from the ninja file it wrote."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

__all__ = ["NinjaFile", "read_ninja"]

_VARIABLE = re.compile(r"^(?P<name>\w+) = (?P<value>.*)$", re.MULTILINE)
_EDGE = re.compile(r"^build (?P<target>(?:[^ $:\n]|\$.)+): (?P<rule>compile|cuda_compile) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NinjaFile:
    """What a build does, as far as the recipe needs it."""

    cflags: tuple[str, ...]
    cuda_cflags: tuple[str, ...]
    objects: tuple[str, ...]
    """Targets that compilers make, in torch's order."""


def read_ninja(text: str) -> NinjaFile:
    """Read torch's ``build.ninja``."""
    variables = {found["name"]: found["value"] for found in _VARIABLE.finditer(text.replace("$\n", ""))}
    return NinjaFile(
        cflags=tuple(shlex.split(variables.get("cflags", ""))),
        cuda_cflags=tuple(shlex.split(variables.get("cuda_cflags", ""))),
        objects=tuple(re.sub(r"\$(.)", r"\1", found["target"]) for found in _EDGE.finditer(text)),
    )
