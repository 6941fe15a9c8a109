"""Temporary directories that do not outlive their process by more than one start of the next."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keck_sandbox.collect import remove_tree

__all__ = ["scratch_directory"]


@contextlib.contextmanager
def scratch_directory(purpose: str) -> Iterator[Path]:
    """A private directory, removed at the end; what killed processes of the same purpose left goes first.

    The directory carries the pid of its process in its name: SIGKILL leaves no other trace of whose it was.
    """
    _sweep(purpose)
    directory = Path(tempfile.mkdtemp(prefix=f"keck-{purpose}-{os.getpid()}-"))
    try:
        yield directory
    finally:
        # Candidates leave trees of any shape behind; what cannot be removed costs only disk.
        remove_tree(directory)


def _sweep(purpose: str) -> None:
    name = re.compile(rf"keck-{re.escape(purpose)}-(\d+)-[a-z0-9_]+")
    for entry in Path(tempfile.gettempdir()).iterdir():
        found = name.fullmatch(entry.name)
        if found is None or entry.is_symlink() or _is_alive(int(found[1])):
            continue
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                remove_tree(entry)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
