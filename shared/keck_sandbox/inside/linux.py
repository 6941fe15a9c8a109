"""The kernel's interfaces that Python has no names for: ctypes over the C library, nothing cached, no state.

Every function raises OSError with the call's name in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "adopt_orphans",
    "clone_tree",
    "close_all_but",
    "die_with_parent",
    "drop_capabilities",
    "mount",
    "move_tree",
    "no_new_privileges",
    "pivot_into",
    "set_attributes",
    "set_dumpable",
    "syscall",
    "unshare",
]

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

_ATTRIBUTES = {MS_RDONLY: 1, MS_NOSUID: 2, MS_NODEV: 4, MS_NOEXEC: 8}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION_3 = 0x2008_0522

# The numbers from 424 on are the same on every architecture.
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_MOUNT_SETATTR, _NR_CLOSE_RANGE = 428, 429, 442, 436
_NR_PIVOT_ROOT, _NR_CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}.get(platform.machine(), (-1, -1))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    """A raw system call; its result."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), what)


def prctl(option: int, second: int = 0, third: int = 0, *, what: str) -> None:
    """`prctl` with its unused arguments zero."""
    zero = ctypes.c_ulong(0)
    arguments = (ctypes.c_ulong(second), ctypes.c_ulong(third), zero, zero)
    _checked(_libc.prctl(option, *arguments), what)


# --- this process


def unshare(flags: int) -> None:
    """New namespaces for this process (those of processes: for its children)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def no_new_privileges() -> None:
    """No program that is executed from here on gives more rights than its caller has."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, what="no_new_privs")


def die_with_parent() -> None:
    """SIGKILL when the thread that is this process's parent ends. A change of uid undoes it."""
    prctl(_PR_SET_PDEATHSIG, 9, what="pdeathsig")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1, what="child_subreaper")


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same uid may look into this one's memory, environment and descriptors."""
    prctl(_PR_SET_DUMPABLE, int(dumpable), what="dumpable")


def drop_bounding_set() -> None:
    """Nothing executed from here on can hold a capability; needs CAP_SETPCAP, without which there is none."""
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability, what="capbset_drop")
        except OSError as error:
            if error.errno in (
                errno.EINVAL,
                errno.EPERM,
            ):  # the last one is behind us, or it is not ours to drop
                return
            raise


def drop_capabilities() -> None:
    """No capability in any set of this process."""
    with contextlib.suppress(OSError):  # unknown before Linux 4.3
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, what="ambient")
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    syscall(_NR_CAPSET, header, ctypes.create_string_buffer(24), what="capset")


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor but these."""
    low = 0
    for fd in sorted(keep):
        _close_range(low, fd - 1)
        low = fd + 1
    _close_range(low, 0xFFFF_FFFF)


def _close_range(low: int, high: int) -> None:
    if low > high:
        return
    try:
        syscall(_NR_CLOSE_RANGE, low, high, 0, what="close_range")
    except OSError:
        os.closerange(low, min(high, os.sysconf("SC_OPEN_MAX")) + 1)


# --- mounts


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """`mount(2)`."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {source} on {target}")


def clone_tree(path: str) -> int:
    """A detached copy of the mounts at and below `path`, as a descriptor: a bind mount not put anywhere yet."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return syscall(_NR_OPEN_TREE, _AT_FDCWD, ctypes.c_char_p(path.encode()), flags, what=f"open_tree {path}")


def set_attributes(tree: int, flags: int) -> None:
    """Add mount flags (``MS_RDONLY`` …) to every mount of a tree."""
    wanted = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
    attributes = _MountAttributes(wanted, 0, 0, 0)
    syscall(
        _NR_MOUNT_SETATTR, tree, ctypes.c_char_p(b""), _AT_EMPTY_PATH | _AT_RECURSIVE,
        ctypes.byref(attributes), ctypes.sizeof(attributes), what="mount_setattr",
    )  # fmt: skip


def move_tree(tree: int, target: str) -> None:
    """Put a detached tree at `target`; the descriptor is closed."""
    where = ctypes.c_char_p(target.encode())
    try:
        syscall(
            _NR_MOVE_MOUNT, tree, ctypes.c_char_p(b""), _AT_FDCWD, where, _MOVE_MOUNT_F_EMPTY_PATH,
            what=f"move_mount {target}",
        )  # fmt: skip
    finally:
        os.close(tree)


def pivot_into(root: str) -> None:
    """Make `root` the root of this mount namespace, and nothing of the old one reachable."""
    os.chdir(root)
    here = ctypes.c_char_p(b".")
    syscall(_NR_PIVOT_ROOT, here, here, what="pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")
