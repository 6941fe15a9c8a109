"""The system calls a cell may not make, as a program for the kernel's filter.

A deny list: the GPU driver's own calls change from version to version, and its real surface (``ioctl``) cannot be
filtered anyway. What is refused has been seen not to be missed by torch, nvcc, ninja, g++ and CUDA (design paper on
the sandbox, 3.3). Refusals look like an old kernel's or an unprivileged user's, so that programs take the way they
have for those; only what has no business here at all (foreign ABIs) ends the process.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from typing import Literal

from keck_sandbox.inside.linux import syscall

__all__ = ["Sockets", "compile_filter", "install", "signals_to_self_only"]

Sockets = Literal["none", "driver"]
"""``driver``: unnamed and bound SEQPACKET sockets, as libcuda opens, but no connection to anything."""

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_KILL, _ALLOW, _ERRNO = 0x8000_0000, 0x7FFF_0000, 0x0005_0000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_SET_MODE_FILTER = 1
_X32 = 0x4000_0000
_NEW_NAMESPACES = 0x7E02_0000
_CLONE_PARENT = 0x8000
"""Makes a sibling, which is no descendant of the cell's first process and so is not counted with it."""
_PR_SET_CHILD_SUBREAPER = 36
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_FIOSETOWN, _SIOCSPGRP, _F_SETOWN, _F_SETOWN_EX = 0x8901, 0x8902, 8, 15
"""Name the process that gets a file's signals; nothing but Landlock from its sixth version on asks whether it may."""
_F_SETSIG, _F_SETLEASE, _F_NOTIFY = 10, 1024, 1026
"""Choose the signal of a file, or have files send one. Like the clocks of ``timer_create``, the kernel could be made to
send SIGCONT, which ends the judge's stop."""
_EXIT_SIGNAL, _SIGCHLD = 0xFF, 17

_Instruction = tuple[int, int, int, int]

# name: (x86-64, aarch64), -1 where the architecture has no such call.
_NUMBERS: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, -1),
    "ioperm": (173, -1), "vhangup": (153, 58), "lookup_dcookie": (212, 18), "move_pages": (279, 239),
    "migrate_pages": (256, 238), "fanotify_init": (300, 262), "modify_ldt": (154, -1), "uselib": (134, -1),
    "ustat": (136, -1), "sysfs": (139, -1), "nfsservctl": (180, 42), "_sysctl": (156, -1),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184), "mq_getsetattr": (245, 185), "timer_create": (222, 107), "mknod": (133, -1),
    "mknodat": (259, 33),
    "setsid": (112, 157), "setpgid": (109, 154), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "truncate": (76, 45), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "clone": (56, 220), "socket": (41, 198),
    "socketpair": (53, 199), "fcntl": (72, 25), "connect": (42, 203), "ioctl": (16, 29), "personality": (135, 92), "prlimit64": (302, 261),
    "prctl": (157, 167), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
}  # fmt: skip
# From 424 on every architecture has the same numbers.
_SAME = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "memfd_secret": 447, "cachestat": 451, "fchmodat2": 452, "statmount": 457, "listmount": 458,
    "lsm_set_self_attr": 460, "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467,
}  # fmt: skip
_NUMBERS |= {name: (number, number) for name, number in _SAME.items()}

_ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}

_REFUSED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise",
    "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount", "unshare", "setns",
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load",
    "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd",
    "open_by_handle_at", "name_to_handle_at", "syslog", "settimeofday", "clock_settime", "clock_adjtime",
    "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm", "vhangup", "lookup_dcookie", "move_pages",
    "migrate_pages", "fanotify_init", "modify_ldt", "uselib", "ustat", "sysfs", "nfsservctl", "_sysctl",
    "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd",
    "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify",
    "mq_getsetattr", "timer_create", "mknod", "mknodat", "memfd_secret", "lsm_set_self_attr", "cachestat",
)  # fmt: skip
_SELF_ONLY = {
    # Which argument names the process; 0 is the caller.
    "setpriority": 1, "sched_setaffinity": 0, "sched_setscheduler": 0, "sched_setparam": 0,
    "sched_setattr": 0, "ioprio_set": 1, "prlimit64": 0,
}  # fmt: skip
_PRETENDED = ("setsid", "setpgid")
_PRETENDED_ON_FILES = (
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
)
_REFUSED_ON_FILES = (
    "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr",
    "lremovexattr", "fremovexattr", "removexattrat",
)  # fmt: skip


def _architecture() -> tuple[int, int]:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    return _ARCHITECTURES[machine]


class _Program:
    """Instructions in order. Each rule stands alone: the call's number is loaded before and after it."""

    def __init__(self) -> None:
        token, column = _architecture()
        self._column = column
        self._code: list[_Instruction] = [
            (_LOAD, 0, 0, _ARCH), (_JUMP_EQUAL, 1, 0, token), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER),
        ]  # fmt: skip
        if column == 0:
            self._code += [(_JUMP_GREATER_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]

    def answer(self, names: Iterable[str], result: int) -> None:
        """The call is not made; the caller sees `result`."""
        for name in names:
            self._rule(name, [(_RETURN, 0, 0, result)])

    def only_if_zero(self, name: str, argument: int) -> None:
        """Refused unless that argument is 0."""
        self._rule(name, _test(argument, [(_JUMP_EQUAL, 1, 0, 0)], errno.EPERM))

    def only_if_equal(self, name: str, argument: int, value: int) -> None:
        """Refused unless that argument has this value."""
        self._rule(name, _test(argument, [(_JUMP_EQUAL, 1, 0, value & 0xFFFF_FFFF)], errno.EPERM))

    def only_unless(self, name: str, argument: int, values: Iterable[int]) -> None:
        """Refused if that argument has one of these values."""
        tests = [_load(argument)]
        for value in values:
            tests += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
        self._rule(name, [*tests, (_RETURN, 0, 0, _ALLOW)])

    def plain_clone(self) -> None:
        """``clone``: a thread, or a child in the same namespaces that ends with SIGCHLD or no signal."""
        refused = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
        self._rule(
            "clone",
            [
                _load(0), (_JUMP_SET, 0, 1, _NEW_NAMESPACES | _CLONE_PARENT), refused,
                (_AND, 0, 0, _EXIT_SIGNAL), (_JUMP_EQUAL, 2, 0, 0), (_JUMP_EQUAL, 1, 0, _SIGCHLD), refused,
                (_RETURN, 0, 0, _ALLOW),
            ],
        )  # fmt: skip

    def plain_personality(self) -> None:
        """``personality``: 0, or the question which it is."""
        tests = [(_JUMP_EQUAL, 2, 0, 0), (_JUMP_EQUAL, 1, 0, 0xFFFF_FFFF)]
        self._rule("personality", _test(0, tests, errno.EPERM))

    def driver_sockets(self) -> None:
        """``socket``: AF_UNIX (1) of type SOCK_SEQPACKET (5) only."""
        refused = (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT)
        self._rule(
            "socket",
            [
                _load(0), (_JUMP_EQUAL, 1, 0, 1), refused,
                _load(1), (_AND, 0, 0, 0xF), (_JUMP_EQUAL, 1, 0, 5), refused, (_RETURN, 0, 0, _ALLOW),
            ],
        )  # fmt: skip

    def connected_pairs(self) -> None:
        """``socketpair``: not of SOCK_DGRAM (2) or SOCK_RAW (3), whose ends can be pointed at any other socket."""
        refused = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
        self._rule(
            "socketpair",
            [
                _load(1), (_AND, 0, 0, 0xF),
                (_JUMP_EQUAL, 0, 1, 2), refused, (_JUMP_EQUAL, 0, 1, 3), refused, (_RETURN, 0, 0, _ALLOW),
            ],
        )  # fmt: skip

    def finished(self) -> bytes:
        """An array of ``struct sock_filter``."""
        code = [*self._code, (_RETURN, 0, 0, _ALLOW)]
        return b"".join(struct.pack("HBBI", *each) for each in code)

    def _rule(self, name: str, body: list[_Instruction]) -> None:
        number = _NUMBERS[name][self._column]
        if number >= 0:
            self._code += [(_JUMP_EQUAL, 0, len(body), number), *body]


def _load(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)


def _test(argument: int, jump: list[_Instruction], refused: int) -> list[_Instruction]:
    """Load, test (falling through to the refusal, jumping over it to the permission)."""
    return [_load(argument), *jump, (_RETURN, 0, 0, _ERRNO | refused), (_RETURN, 0, 0, _ALLOW)]


def compile_filter(*, sockets: Sockets, same_session: bool, same_user: bool, truncate: bool) -> bytes:
    """The program for one kind of cell.

    Args:
        sockets: which may be made; connected pairs always may.
        same_session: without a pid namespace: a process that leaves the session could not be found again, so
            ``setsid`` and ``setpgid`` do nothing and say that they did.
        same_user: the cell's user is the service's: calls on files that Landlock does not see have no effect.
        truncate: refuse ``truncate`` too, which Landlock does not see before its third version.
    """
    program = _Program()
    program.answer(_REFUSED, _ERRNO | errno.EPERM)
    program.answer(["clone3"], _ERRNO | errno.ENOSYS)  # its flags cannot be seen; the C library takes clone
    program.plain_clone()
    for name, argument in _SELF_ONLY.items():
        program.only_if_zero(name, argument)
    program.only_unless("ioctl", 1, (_TIOCSTI, _TIOCLINUX, _TIOCSETD, _FIOSETOWN, _SIOCSPGRP))
    program.only_unless("fcntl", 1, (_F_SETOWN, _F_SETOWN_EX, _F_SETSIG, _F_SETLEASE, _F_NOTIFY))
    program.connected_pairs()
    program.plain_personality()
    # The first process of a cell adopts its orphans, so that they are found when the cell is stopped.
    program.only_unless("prctl", 0, (_PR_SET_CHILD_SUBREAPER,))
    if sockets == "driver":
        program.driver_sockets()
        program.answer(["connect"], _ERRNO | errno.EACCES)
    else:
        program.answer(["socket"], _ERRNO | errno.EAFNOSUPPORT)
    if same_session:
        program.answer(_PRETENDED, _ERRNO)
    if same_user:
        program.answer(_PRETENDED_ON_FILES, _ERRNO)
        program.answer(_REFUSED_ON_FILES, _ERRNO | errno.EPERM)
    if truncate:
        program.answer(["truncate"], _ERRNO | errno.EPERM)
    return program.finished()


def signals_to_self_only(pid: int) -> bytes:
    """Signals to this process and to no other: for kernels whose Landlock does not scope them (before version 6)."""
    program = _Program()
    for name in ("kill", "tgkill"):
        program.only_if_equal(name, 0, pid)
    program.answer(["tkill"], _ERRNO | errno.EPERM)
    return program.finished()


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(program: bytes) -> None:
    """Filter every call of this thread and of all it starts, for ever; needs no_new_privs.

    Raises:
        OSError: the kernel has no filters, or refuses this one.
    """
    code = ctypes.create_string_buffer(program, len(program))
    described = _FilterProgram(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    syscall(number, _SET_MODE_FILTER, 0, ctypes.byref(described), what="seccomp")
