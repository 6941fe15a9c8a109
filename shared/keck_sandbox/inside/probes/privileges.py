"""Gaining rights: capabilities, users, namespaces, mounts, and the kernel's less harmless calls."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import sys
import termios
import time

from keck_sandbox.inside.probes.kernel import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    call,
    checked,
    clone,
    libc,
    x86_only,
)
from keck_sandbox.inside.probes.registry import Facts, Unsupported, probe, require

__all__: list[str] = []

_MS_BIND, _MS_PRIVATE, _MS_REC = 4096, 1 << 18, 16384
_MNT_DETACH = 2
_SETUID_PROGRAMS = ("/usr/bin/su", "/bin/su", "/usr/bin/newgrp", "/usr/bin/chsh", "/usr/bin/passwd")


def _status() -> dict[str, str]:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


# --- what this process is


@probe("priv", 33)
def hold_capabilities(_: Facts) -> str:
    """Any, in any set but the bounding one."""
    held = {
        name: value for name, value in _status().items() if name in ("CapInh", "CapPrm", "CapEff", "CapAmb")
    }
    require(any(int(value, 16) for value in held.values()), "none")
    return str(held)


@probe("priv", 33)
def keep_bounding_set(facts: Facts) -> str:
    """Capabilities that an executed file might give back, where the service could have given them up."""
    if not facts["root"]:
        raise Unsupported("the service cannot give it up")
    held = _status()["CapBnd"]
    require(int(held, 16), "empty")
    return held


@probe("priv", 33)
def gain_new_privileges(_: Facts) -> None:
    """By executing a file: unless this was forbidden for good."""
    require(_status()["NoNewPrivs"] != "1", "forbidden")


@probe("syscalls", 33)
def be_unfiltered(_: Facts) -> None:
    """No filter of system calls on this process."""
    require(_status()["Seccomp"] != "2", "filtered")


@probe("priv", 34)
def be_root(_: Facts) -> None:
    """User 0, in whatever namespace."""
    require(0 in (*os.getresuid(), *os.getresgid()), str(os.getuid()))


@probe("priv", 34)
def become_root(_: Facts) -> None:
    """User 0, by asking."""
    os.setuid(0)


@probe("priv", 34)
def join_group(_: Facts) -> None:
    """Group 0, besides this process's own."""
    os.setgroups([0])


@probe("priv", 34)
def execute_setuid(_: Facts) -> str:
    """A program that makes its caller root: seen while it cannot write its help text into a pipe that is full."""
    program = next((path for path in _SETUID_PROGRAMS if _is_setuid_root(path)), None)
    if program is None:
        raise Unsupported("no such program here")
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        try:
            os.execv(program, [program, "--help"])
        finally:
            os._exit(127)
    try:
        users = _users_of(pid, os.path.basename(program))
    finally:
        os.close(read)  # it ends by that
        os.close(write)
        os.waitpid(pid, 0)
    require(users and "0" in users[1:], f"users {users}")
    return program


def _is_setuid_root(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return bool(found.st_mode & 0o4000) and found.st_uid == 0


def _users_of(pid: int, name: str) -> list[str]:
    """Users of a child (real, effective, saved, of files) once it is that program and waits; empty: it has ended."""
    limit = time.monotonic() + 2
    while time.monotonic() < limit:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            return []
        if status["State"].startswith("Z"):
            return []
        if status["Name"].strip() == name and status["State"].startswith("S"):
            return status["Uid"].split()
        os.sched_yield()
    raise OSError("it did not come up")


# --- namespaces and mounts


def _private_mounts() -> None:
    """Where it can be had: mounts of one's own, so that nothing that succeeds is seen by anybody."""
    if libc.unshare(CLONE_NEWNS) == 0:
        checked(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))


@probe("priv", 35)
def new_user_namespace(_: Facts) -> None:
    """Where one would be root again."""
    checked(libc.unshare(CLONE_NEWUSER))


@probe("priv", 35)
def new_namespaces(_: Facts) -> str:
    """Of each other kind."""
    kinds = {
        "time": 0x80, "mnt": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
        "pid": 0x20000000, "net": 0x40000000,
    }  # fmt: skip
    open_ = [name for name, flag in kinds.items() if libc.unshare(flag) == 0]
    require(open_, "none")
    return " ".join(open_)


@probe("priv", 35)
def clone_user_namespace(_: Facts) -> None:
    """By the call that makes processes."""
    clone(CLONE_NEWUSER)


@probe("priv", 35)
def clone3_user_namespace(_: Facts) -> None:
    """By its successor, whose arguments a filter cannot see."""
    arguments = (ctypes.c_uint64 * 11)(CLONE_NEWUSER, 0, 0, 0, 17)
    pid = call("clone3", ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe("priv", 35)
def enter_namespace(_: Facts) -> None:
    """One's own again, which needs as much as anybody's."""
    fd = os.open("/proc/self/ns/uts", os.O_RDONLY)
    checked(libc.setns(fd, 0))


@probe("priv", 35)
def change_root(_: Facts) -> None:
    """To the directory this is in."""
    os.chroot(".")


@probe("priv", 35)
def mount_tmpfs(_: Facts) -> None:
    """A file system of one's own."""
    _private_mounts()
    os.makedirs("place", exist_ok=True)
    checked(libc.mount(b"none", b"place", b"tmpfs", ctypes.c_ulong(0), None))
    checked(libc.umount2(b"place", _MNT_DETACH))


@probe("priv", 35, 54)
def bind_over(_: Facts) -> None:
    """One directory over another."""
    _private_mounts()
    os.makedirs("place", exist_ok=True)
    checked(libc.mount(b"place", b"place", None, ctypes.c_ulong(_MS_BIND), None))
    checked(libc.umount2(b"place", _MNT_DETACH))


@probe("priv", 35)
def unmount(facts: Facts) -> str:
    """What is mounted in the cell: its work directory, or what hides something."""
    _private_mounts()
    last = 0
    for path in (facts["work"], "/dev/shm", "/dev/null", "/proc", "/sys"):
        if libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
            return path
        last = ctypes.get_errno()
    raise OSError(last, os.strerror(last))


@probe("priv", 35)
def mount_anew(_: Facts) -> str:
    """By the calls that came after mount."""
    _private_mounts()
    attributes = (ctypes.c_uint64 * 4)(1, 0, 0, 0)
    here, root = ctypes.c_char_p(b"."), ctypes.c_char_p(b"/")
    ways = {
        "fsopen": ("fsopen", ctypes.c_char_p(b"tmpfs"), 0),
        "open_tree": ("open_tree", -100, here, 1),
        "mount_setattr": ("mount_setattr", -100, root, 0x8000, ctypes.byref(attributes), 32),
        "pivot_root": ("pivot_root", here, here),
    }
    open_, last = [], OSError()
    for name, (number, *arguments) in ways.items():
        try:
            call(str(number), *arguments)
        except OSError as error:
            last = error
        else:
            open_.append(name)
    if not open_:
        raise last
    return " ".join(open_)


@probe("priv", 35)
def new_network(_: Facts) -> None:
    """Where one administers the network."""
    checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))


# --- the kernel's rarer calls


@probe("syscalls", 36)
def load_bpf(_: Facts) -> None:
    """A map for a program in the kernel."""
    attributes = (ctypes.c_uint32 * 32)(2, 4, 4, 1)  # an array of one
    os.close(call("bpf", 0, ctypes.byref(attributes), 128))


@probe("syscalls", 36)
def count_events(_: Facts) -> None:
    """A counter of this process's instructions."""
    attributes = (ctypes.c_uint32 * 32)(1, 128, 0)  # software, the processor's clock
    attributes[10] = 1 << 5 | 1 << 6  # neither the kernel's nor the hypervisor's
    os.close(call("perf_event_open", ctypes.byref(attributes), 0, -1, -1, 0))


@probe("syscalls", 36)
def handle_page_faults(_: Facts) -> None:
    """Stop the kernel in the middle of what it does."""
    os.close(call("userfaultfd", 0))


@probe("syscalls", 36)
def hide_memory(_: Facts) -> None:
    """From the kernel itself."""
    os.close(call("memfd_secret", 0))


@probe("syscalls", 36)
def move_memory(_: Facts) -> None:
    """Between nodes."""
    call("move_pages", 0, 0, None, None, None, 2)


@probe("syscalls", 36)
def set_segments(_: Facts) -> None:
    """Read the table of segments, which could then be written."""
    call("modify_ldt", 0, ctypes.create_string_buffer(64), 64)


@probe("syscalls", 36)
def watch_everything(_: Facts) -> None:
    """All use of a file system."""
    os.close(checked(libc.fanotify_init(0, 0)))


@probe("syscalls", 36)
def fix_addresses(_: Facts) -> None:
    """Of programs that this one executes."""
    checked(libc.personality(0x0040000))


@probe("syscalls", 36)
def read_kernel_log(_: Facts) -> None:
    """Which tells of everybody."""
    checked(libc.klogctl(3, ctypes.create_string_buffer(256), 256))


@probe("syscalls", 36)
def remove_module(_: Facts) -> None:
    """Of the kernel, one that is not there: refused for that reason alone."""
    try:
        call("delete_module", ctypes.c_char_p(b"keck_is_not_a_module"), os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Unsupported("a kernel without modules") from error
        raise


@probe("clock", 58)
def set_clock(_: Facts) -> None:
    """To the pace it has."""
    state = ctypes.create_string_buffer(256)
    checked(libc.clock_adjtime(0, state))
    tick = ctypes.c_long.from_buffer(state, 88).value
    state = ctypes.create_string_buffer(256)
    ctypes.c_uint.from_buffer(state).value = 0x4000  # ADJ_TICK
    ctypes.c_long.from_buffer(state, 88).value = tick
    checked(libc.clock_adjtime(0, state))


@probe("priv", 36)
def name_host(_: Facts) -> None:
    """With the name it has."""
    name = os.uname().nodename.encode()
    checked(libc.sethostname(name, len(name)))


@probe("syscalls", 38)
def type_into_terminal(_: Facts) -> None:
    """A key into a terminal: one of this process's own, which the cell's must not be able to have either."""
    try:
        terminal = os.openpty()[1]
    except OSError:
        terminal = 0
    else:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"\0")


# --- ways around a filter


@probe("syscalls", 37)
def call_as_32_bit(_: Facts) -> None:
    """By the interrupt of 32-bit programs, whose numbers mean other calls."""
    x86_only()
    _in_child(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3", 0)  # mov eax, 20 (getpid); int 0x80; ret


@probe("syscalls", 37)
def call_as_x32(_: Facts) -> None:
    """By the numbers of 32-bit pointers in 64-bit programs."""
    x86_only()
    _in_child(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3", 1)  # mov eax, 0x40000027 (getpid); syscall; ret


def _in_child(code: bytes, rare: int) -> None:
    """Run machine code that asks for the process's number; the program that it is may not survive.

    Raises:
        OSError: it was not answered.
        Unsupported: this kernel has no such interface.
    """
    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    asked = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if asked() == os.getpid() else 1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        if number is signal.SIGSEGV:
            raise Unsupported("the kernel has no such calls")
        raise OSError(number.name)
    if os.WEXITSTATUS(status):
        if rare:
            raise Unsupported("the kernel has no such calls")
        raise OSError("no answer")
