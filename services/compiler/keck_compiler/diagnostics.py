"""Compiler output, as structured messages: gcc's, nvcc's, the linker's, and what ptxas says of kernels."""

from __future__ import annotations

import re
from typing import Literal, cast

from keck.messages import Diagnostic, KernelFacts

__all__ = ["first_error", "parse_diagnostics", "parse_ptxas"]

_MAX_DIAGNOSTICS = 100
_MAX_TEXT = 1_000
_MAX_FILE = 300
_Severity = Literal["error", "warning", "note"]

_GCC = re.compile(
    r"^(?P<file>[^\s:()][^:()\n]*):(?P<line>[0-9]{1,9}):(?:(?P<column>[0-9]{1,9}):)? "
    r"(?P<severity>fatal error|error|warning|note): (?P<text>.*)$"
)
_NVCC = re.compile(
    r"^(?P<file>[^\s:()][^:()\n]*)\((?P<line>[0-9]{1,9})\): "
    r"(?P<severity>catastrophic error|error|warning|remark|note)(?: #[\w-]+)?: (?P<text>.*)$"
)
_PTXAS = re.compile(
    r"^(?:ptxas|nvlink) (?:(?P<file>[^,\s]+), line (?P<line>[0-9]{1,9}); )?(?P<severity>fatal|error|warning)\s*: (?P<text>.*)$"
)
_UNDEFINED = re.compile(
    r"^(?:\S*ld(?:\.\w+)?: )?(?:[^\s:]+:)*?(?P<where>[^\s:()]+)(?::\([^)]{0,300}\))?: "
    r"(?P<text>(?:undefined reference to|multiple definition of) .*)$"
)
_LINKER = re.compile(
    r"^(?:\S*/)?(?:ld|ld\.\w+|collect2|g\+\+|c\+\+|nvcc)(?: fatal +)?: (?:(?:fatal )?error: )?(?P<text>.*)$"
)
_DRIVER = re.compile(
    r"^(?:\S*/)?(?:g\+\+|c\+\+|cc1plus|nvcc)(?: fatal +)?: (?:fatal )?(?:error: )?(?P<text>.*)$"
)
_SUMMARY = re.compile(r"ld returned \d+ exit status|error: linker command failed")

_ENTRY = re.compile(r"ptxas info\s*: Compiling entry function '(?P<kernel>[^']+)' for '(?P<arch>[^']+)'")
_USED = re.compile(r"ptxas info\s*: Used (?P<registers>[0-9]{1,9}) registers(?P<rest>.*)")
# Numbers begin where no digit is before them: else each digit of a long one would begin another search.
_SHARED = re.compile(r"(?<![0-9])([0-9]{1,9}) bytes smem")
_SPILLS = re.compile(r"(?<![0-9])([0-9]{1,9}) bytes spill stores, ([0-9]{1,9}) bytes spill loads")


def parse_diagnostics(log: str) -> list[Diagnostic]:
    """Messages in the order printed, errors kept before warnings where there are too many."""
    found: list[Diagnostic] = []
    seen: set[Diagnostic] = set()
    for line in log.splitlines():
        diagnostic = _of_line(line)
        # nvcc repeats a message for each pass over the file.
        if diagnostic is not None and diagnostic not in seen:
            seen.add(diagnostic)
            found.append(diagnostic)
    if len(found) <= _MAX_DIAGNOSTICS:
        return found
    errors = [item for item in found if item.severity == "error"][:_MAX_DIAGNOSTICS]
    rest = [item for item in found if item.severity != "error"][: _MAX_DIAGNOSTICS - len(errors)]
    return errors + rest


def first_error(diagnostics: list[Diagnostic]) -> str:
    """One line for people: the first error with its place, or nothing."""
    for item in diagnostics:
        if item.severity == "error":
            place = f"{item.file}:{item.line}: " if item.line else (f"{item.file}: " if item.file else "")
            return place + item.text
    return ""


def parse_ptxas(log: str) -> list[KernelFacts]:
    """Registers, shared memory and spills of each kernel, as ptxas says them with ``-v``."""
    facts: list[KernelFacts] = []
    kernel = arch = ""
    stores = loads = 0
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            kernel, arch, stores, loads = entry["kernel"], entry["arch"], 0, 0
        elif spills := _SPILLS.search(line):
            stores, loads = int(spills[1]), int(spills[2])
        elif kernel and (used := _USED.search(line)):
            shared = _SHARED.search(used["rest"])
            facts.append(
                KernelFacts(
                    kernel=kernel, arch=arch, registers=int(used["registers"]),
                    shared_bytes=int(shared[1]) if shared else 0,
                    spill_store_bytes=stores, spill_load_bytes=loads,
                )
            )  # fmt: skip
            kernel = ""
    return facts[:_MAX_DIAGNOSTICS]


def _of_line(line: str) -> Diagnostic | None:
    if match := _GCC.match(line) or _NVCC.match(line) or _PTXAS.match(line):
        groups = match.groupdict()
        return _diagnostic(
            groups["file"] or "", groups["text"], _severity(groups["severity"]),
            line=int(groups["line"] or 0), column=int(groups.get("column") or 0),
        )  # fmt: skip
    if match := _UNDEFINED.match(line):
        return _diagnostic(match["where"], match["text"], "error")
    if (match := _LINKER.match(line) or _DRIVER.match(line)) and not _SUMMARY.search(line):
        text = match["text"]
        # `ld: main.o: in function ...:` only introduces the line that follows; warnings are no errors.
        if text.endswith(":") or "warning" in text or text.startswith("NOTE:"):
            return None
        return _diagnostic("", text, "error")
    return None


def _diagnostic(file: str, text: str, severity: _Severity, *, line: int = 0, column: int = 0) -> Diagnostic:
    return Diagnostic(
        file=file[:_MAX_FILE], line=line, column=column, severity=severity, text=text[:_MAX_TEXT]
    )


def _severity(word: str) -> _Severity:
    if "error" in word or word == "fatal":
        return "error"
    return cast("_Severity", word if word in ("warning", "note") else "note")
