"""Reading what a cell left behind: names in its directory may by now be links, pipes or devices."""

from __future__ import annotations

import os
import stat

__all__ = ["CellFileError", "read_cell_file"]


class CellFileError(Exception):
    """A cell's file is missing, no regular file, or too large."""


def read_cell_file(directory: int, name: str, *, limit_bytes: int, below: str = "") -> bytes:
    """Bytes of the regular file `name` in the cell's work directory (a descriptor), or in its subdirectory `below`.

    Raises:
        CellFileError: there is none of at most `limit_bytes` bytes.
    """
    try:
        parent = os.dup(directory)
        if below:
            parent = _descend(parent, below)
        try:
            # Non-blocking: opening a pipe would wait for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise CellFileError(f"{name}: {error.strerror}") from error
    found = os.fstat(descriptor)
    # A second name: without a file system of its own, a cell could have linked a file of somebody else's.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise CellFileError(f"{name}: not a regular file of its own")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise CellFileError(f"{name}: larger than {limit_bytes} bytes")
    return data


def _descend(parent: int, below: str) -> int:
    try:
        return os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
