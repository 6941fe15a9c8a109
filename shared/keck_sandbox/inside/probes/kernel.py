"""System calls by number and by the C library, for attacks that Python has no names for."""

from __future__ import annotations

import ctypes
import os
import platform

from keck_sandbox.inside.probes.registry import Unsupported

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "NR",
    "call",
    "checked",
    "clone",
    "libc",
    "x86_only",
]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x0002_0000, 0x1000_0000, 0x4000_0000

# x86-64, aarch64; from 424 on they are the same.
_NUMBERS = {
    "kcmp": (312, 272), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "add_key": (248, 217), "keyctl": (250, 219), "request_key": (249, 218), "clone": (56, 220),
    "delete_module": (176, 106), "modify_ldt": (154, -1), "ioprio_set": (251, 30), "ioprio_get": (252, 31),
    "move_pages": (279, 239), "mq_open": (240, 180), "mq_unlink": (241, 181), "pivot_root": (155, 41),
    "rt_sigqueueinfo": (129, 138), "setsid": (112, 157), "timer_create": (222, 107),
}  # fmt: skip
_SAME = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435,
    "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), -1)
NR = {name: numbers[_COLUMN] if _COLUMN >= 0 else -1 for name, numbers in _NUMBERS.items()} | _SAME


def checked(result: int) -> int:
    """The result of a call of the C library.

    Raises:
        OSError: it is negative.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def call(name: str, *arguments: object) -> int:
    """A system call by its name.

    Raises:
        Unsupported: this architecture has none of that name.
        OSError: it failed.
    """
    if NR[name] < 0:
        raise Unsupported(f"no {name} on {platform.machine()}")
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return checked(libc.syscall(ctypes.c_long(NR[name]), *passed))


def clone(flags: int) -> None:
    """A child made with these flags, which ends at once."""
    pid = call("clone", flags | 17, 0, 0, 0, 0)  # SIGCHLD
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def x86_only() -> None:
    """Raises Unsupported elsewhere."""
    if _COLUMN != 0:
        raise Unsupported(f"not on {platform.machine()}")
