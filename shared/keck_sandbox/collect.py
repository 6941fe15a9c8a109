"""What a cell left behind: reading one file of it, and removing all of it, without trusting a single name.

By the time the service looks, any name in a cell's directory may be a link, a pipe, a device or a mount, a file may
be a terabyte of holes, and a tree may be deeper than the interpreter's stack. Links are never followed, mounts never
crossed, nothing is waited for, and memory and descriptors are bounded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from keck_sandbox.inside.linux import syscall

__all__ = ["CellFileError", "read_file", "remove_tree"]

_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 1, 2, 4, 8
_RESOLVE = _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking: opening a pipe would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_AT_ONCE = 4096
"""Entries of one directory that are held in memory."""
_TOLD = 100
"""Paths that are told of what could not be removed."""


class CellFileError(Exception):
    """A cell's file is missing, no regular file of its own, or too large."""


def read_file(directory: int, name: str, *, limit_bytes: int, below: str = "") -> bytes:
    """Bytes of the regular file `name`, a relative path, in the directory (a descriptor) or its subdirectory `below`.

    Raises:
        CellFileError: there is none of at most `limit_bytes` bytes, that has no other name and is in no other mount.
    """
    try:
        fd = _open_beneath(directory, os.fsencode(f"{below}/{name}" if below else name), _FILE)
    except OSError as error:
        raise CellFileError(f"{name}: {error.strerror}") from error
    except ValueError as error:  # NUL, or what no file system's encoding has
        raise CellFileError("not the name of a file") from error
    try:
        return _read(fd, name, limit_bytes)
    except OSError as error:
        raise CellFileError(f"{name}: {error.strerror}") from error
    finally:
        os.close(fd)


def _read(fd: int, name: str, limit_bytes: int) -> bytes:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise CellFileError(f"{name}: not a regular file")
    if found.st_nlink != 1:  # a second name: what it shows need not be the cell's
        raise CellFileError(f"{name}: it has {found.st_nlink} names")
    too_large = f"{name}: larger than {limit_bytes} bytes"
    if found.st_size > limit_bytes:
        raise CellFileError(too_large)
    data = bytearray()
    while len(data) <= limit_bytes:  # bounded again: it may grow while it is read
        more = os.read(fd, min(1 << 20, limit_bytes + 1 - len(data)))
        if not more:
            return bytes(data)
        data += more
    raise CellFileError(too_large)


# --- opening


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _open_beneath(directory: int, path: bytes, flags: int) -> int:
    """Open what lies at or below a directory, in its mount and by no link."""
    parts = path.split(b"/")
    if not all(parts) or b".." in parts or b"." in parts or b"\0" in path:
        raise OSError(errno.EINVAL, "not a plain relative path")
    with contextlib.suppress(_NoOpenat2):
        return _openat2(directory, path, flags)
    return _open_stepwise(directory, parts, flags)


class _NoOpenat2(Exception):
    """The kernel (before 5.6), or a container's filter, does not know the call."""


def _openat2(directory: int, path: bytes, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE)
    try:
        return syscall(
            _OPENAT2, directory, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how), what="openat2"
        )
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            raise _NoOpenat2 from error
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error


def _open_stepwise(directory: int, parts: list[bytes], flags: int) -> int:
    """As the kernel does it, in user space: each component by itself, none of them a link or in another device."""
    device = os.fstat(directory).st_dev
    here = os.dup(directory)
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            there = os.open(part, flags if last else _DIRECTORY, dir_fd=here)
            os.close(here)
            here = there
            if os.fstat(here).st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    except BaseException:
        os.close(here)
        raise
    return here


# --- removing


@dataclass(slots=True)
class _Level:
    """A directory that is being emptied, and how to know it again on the way back up."""

    name: bytes
    """In the directory above."""
    identity: tuple[int, int]
    todo: list[bytes] = field(default_factory=list)
    """Directories in it that were seen and not entered yet."""
    kept: set[bytes] = field(default_factory=set)
    """What could not be removed."""
    full: set[bytes] = field(default_factory=set)
    """Those of them that only stay because something in them does."""


def remove_tree(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Remove a directory and everything in it; a link or a file at `path` is removed itself.

    Whoever owns a directory may have forbidden it to himself: permissions are put back first. Three descriptors are
    open at a time, however deep the tree is.

    Returns:
        paths that could not be removed, the first hundred; empty: nothing is left.
    """
    whole = os.path.abspath(os.fspath(path))
    above, name = os.path.split(os.fsencode(whole))
    try:
        parent = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # it need not be readable
    except FileNotFoundError:
        return ()
    except OSError:
        return (whole,)
    try:
        return tuple(_remove(parent, above, name))
    finally:
        os.close(parent)


def _remove(parent: int, above: bytes, name: bytes) -> list[str]:
    left: list[str] = []
    if _unlinked(parent, name):
        return left
    levels: list[_Level] = []
    here = _entered(parent, name, levels)
    if here < 0:
        return [os.fsdecode(os.path.join(above, name))]
    try:
        while levels:
            level = levels[-1]
            if not level.todo:
                level.todo = list(_swept(here, level.kept))
            if level.todo:
                child = level.todo.pop()
                inside = _entered(here, child, levels)
                if inside < 0:
                    level.kept.add(child)
                else:
                    os.close(here)
                    here = inside
                continue
            _tell(left, above, levels)
            here = _left(here, parent, levels)
            if not levels and not left and _exists(parent, name):
                left.append(os.fsdecode(os.path.join(above, name)))
    finally:
        os.close(here)
    return left


def _tell(left: list[str], above: bytes, levels: list[_Level]) -> None:
    """Name what the innermost directory keeps."""
    stubborn = levels[-1].kept - levels[-1].full
    if stubborn and len(left) < _TOLD:
        directory = os.path.join(above, *(level.name for level in levels))
        told = [os.fsdecode(os.path.join(directory, name)) for name in sorted(stubborn)]
        left += told[: _TOLD - len(left)]


def _left(here: int, parent: int, levels: list[_Level]) -> int:
    """Go up from a directory that is as empty as it gets, and remove it; a descriptor of the one above.

    Raises:
        OSError: what is above is not what was above: somebody moves the tree while it is removed.
    """
    done = levels.pop()
    if levels:
        up = os.open(b"..", _DIRECTORY, dir_fd=here)
        if _identity(up) != levels[-1].identity:
            os.close(up)
            raise OSError(errno.ESTALE, "the tree is moved while it is removed")
    else:
        up = os.dup(parent)
    os.close(here)
    try:
        os.rmdir(done.name, dir_fd=up)
    except OSError:
        if levels:
            levels[-1].kept.add(done.name)
            if done.kept:
                levels[-1].full.add(done.name)
    return up


def _swept(here: int, kept: set[bytes]) -> Iterator[bytes]:
    """Unlink what is no directory; names of some of the directories that are left, none of them in `kept`."""
    more = True
    while more:
        names: list[bytes] = []
        with os.scandir(here) as entries:
            more = False
            for entry in entries:
                encoded = os.fsencode(entry.name)
                if encoded in kept:
                    continue
                if len(names) == _AT_ONCE:
                    more = True
                    break
                names.append(encoded)
        directories = [name for name in names if not _unlinked(here, name)]
        yield from directories
        if directories:
            return


def _unlinked(parent: int, name: bytes) -> bool:
    """Whether it is gone, other than by being a directory: not asked first, so that there is no time in between."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _entered(parent: int, name: bytes, levels: list[_Level]) -> int:
    """A descriptor of the directory `name`, now the innermost; -1: it is none of ours, or stays closed."""
    for attempt in range(2):
        try:
            fd = _open_beneath(parent, name, _DIRECTORY)
        except PermissionError:
            if attempt or not _permitted(parent, name):
                return -1
        except OSError:  # no directory (and could not be unlinked), or in another mount
            return -1
        else:
            _permit(fd)
            levels.append(_Level(name, _identity(fd)))
            return fd
    return -1


def _permitted(parent: int, name: bytes) -> bool:
    """Let this user into a directory of his own that he may not open."""
    try:
        fd = _open_beneath(parent, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # a bare descriptor cannot be given other permissions
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _permit(fd: int) -> None:
    """Let this user change an open directory, where it is his."""
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
