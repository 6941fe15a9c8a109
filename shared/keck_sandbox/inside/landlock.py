"""Landlock: the kernel's own access rules for files, TCP, abstract sockets and signals, for any user.

Rules are given by path and right; what the running kernel's version does not know is left out of the ruleset, and
:func:`abi` says which version that is. Numbers from ``linux/landlock.h``; the semantics are described in the
kernel's ``userspace-api/landlock``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from keck_sandbox.inside.linux import syscall

__all__ = ["ABI_SCOPES", "ABI_TRUNCATE", "abi", "restrict"]

ABI_TRUNCATE = 3
ABI_NETWORK = 4
ABI_SCOPES = 6

_NR_CREATE_RULESET, _NR_ADD_RULE, _NR_RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_FIRST_FILESYSTEM_RIGHTS = (1 << 13) - 1
_MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 11
_SINCE = {2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}
"""Rights that came after the first version."""

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = (_FIRST_FILESYSTEM_RIGHTS | 1 << 13 | _TRUNCATE) & ~(_MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE)
_AMEND = _WRITE_FILE | _TRUNCATE
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The version this kernel offers; 0: none."""
    try:
        return syscall(_NR_CREATE_RULESET, None, 0, 1, what="landlock")
    except OSError:
        return 0


def restrict(
    *,
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    devices: Iterable[str] = (),
    amend: Iterable[str] = (),
    at_most: int = 99,
) -> None:
    """Allow this thread, and all it starts, nothing but this; paths that do not exist are left out.

    No TCP, no abstract socket of another domain, no signal out of the domain, as far as the kernel knows them.

    Args:
        read: read and execute at and below.
        write: everything but device nodes at and below.
        devices: read, write and ioctl.
        amend: existing files below may be written and cut (``/proc/self``: names of threads), none made.
        at_most: pretend the kernel to be of this version.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    version = min(abi(), at_most)
    filesystem = _FIRST_FILESYSTEM_RIGHTS | sum(right for since, right in _SINCE.items() if version >= since)
    ruleset = _Ruleset(filesystem, 3 if version >= ABI_NETWORK else 0, 3 if version >= ABI_SCOPES else 0)
    size = 8 if version < ABI_NETWORK else 16 if version < ABI_SCOPES else 24
    rules = syscall(_NR_CREATE_RULESET, ctypes.byref(ruleset), size, 0, what="landlock_create_ruleset")
    try:
        for paths, rights in ((read, _READ), (write, _WRITE), (devices, _DEVICE), (amend, _AMEND)):
            for path in paths:
                _add(rules, path, rights & filesystem)
        syscall(_NR_RESTRICT_SELF, rules, 0, what="landlock_restrict_self")
    finally:
        os.close(rules)


def _add(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, or not to be reached by this user: then it is not to be allowed either
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, fd)
        syscall(_NR_ADD_RULE, rules, _RULE_PATH_BENEATH, ctypes.byref(rule), 0, what=f"landlock {path}")
    finally:
        os.close(fd)
