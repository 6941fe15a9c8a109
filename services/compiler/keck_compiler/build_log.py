"""Build logs as a product: the same text on every machine."""

from __future__ import annotations

import re
from pathlib import Path

from keck.messages import MAX_LOG_BYTES

__all__ = ["capped", "shortened"]

_WORD = re.compile(r"[^\s\"':]+")
_PACKAGES = re.compile(r"/(?:site|dist)-packages/")
_TEMPORARY = re.compile(r"tmpxft_[0-9a-f]+_[0-9a-f]+-\d+_")
_CUT = "\n... cut ...\n"


def shortened(log: str, *, directory: Path, cuda_home: Path | None = None) -> str:
    """The log with this machine's directories taken out, so that sources appear by file name."""
    for below in ("work/", "src/", "tmp/", ""):
        log = log.replace(f"{directory}/{below}", "")
    if cuda_home is not None:
        log = log.replace(f"{cuda_home}/", "cuda/")
    log = _WORD.sub(_without_packages, log)
    return _TEMPORARY.sub("", log)


def _without_packages(word: re.Match[str]) -> str:
    """The word without the directories up to and with its packages'; one expression for it would take O(n²)."""
    text, kept, at = word[0], list[str](), 0
    while (slash := text.find("/", at)) >= 0 and (found := _PACKAGES.search(text, slash + 1)) is not None:
        kept.append(text[at:slash])
        at = found.end()
    return "".join((*kept, text[at:]))


def capped(log: str, limit_bytes: int = MAX_LOG_BYTES) -> str:
    """Head and tail of a log that is too long to travel."""
    data = log.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return log
    half = (limit_bytes - len(_CUT)) // 2
    return data[:half].decode("utf-8", "ignore") + _CUT + data[-half:].decode("utf-8", "ignore")
