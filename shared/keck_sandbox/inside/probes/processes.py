"""Seeing, stopping, reading and changing processes that are not the cell's."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct

from keck_sandbox.inside.probes.kernel import call, checked, libc
from keck_sandbox.inside.probes.registry import Facts, probe, require, victim, victim_proc

__all__: list[str] = []

_PTRACE_SEIZE, _FIOSETOWN, _WALL = 0x4206, 0x8901, 0x4000_0000


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _read(path: str) -> None:
    with open(path, "rb") as file:
        require(file.read(64), "nothing to read")


# --- seeing


@probe("proc_view", 32)
def count_processes(facts: Facts) -> str:
    """Processes that are neither of this cell nor its init."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                parents[int(entry)] = -1
    ours = {os.getpid(), os.getppid()}
    try:
        victim(facts)
    except ProcessLookupError:
        ours.add(1)
    while more := {pid for pid, parent in parents.items() if parent in ours - {1}} - ours:
        ours |= more
    require(set(parents) - ours, "none")
    return f"{len(set(parents) - ours)} processes"


@probe("stat", 32)
def stat_process(facts: Facts) -> None:
    """Whether a process exists and whose it is, by its directory."""
    victim(facts)
    os.stat(victim_proc(facts))


@probe("proc_view", 27)
def read_victim_status(facts: Facts) -> None:
    """Its state, its parent, its user."""
    _read(f"{victim_proc(facts)}/status")


@probe("proc_view", 27)
def read_victim_command(facts: Facts) -> None:
    """Its arguments."""
    _read(f"{victim_proc(facts)}/cmdline")


# --- signals


@probe("signals", 26)
def signal_victim(facts: Facts) -> None:
    """The null signal: whether one could be sent."""
    os.kill(victim(facts), 0)


@probe("signals", 26)
def signal_service(facts: Facts) -> None:
    """The same to the service itself."""
    os.kill(victim(facts, "service"), 0)


@probe("signals", 26)
def send_signal(facts: Facts) -> None:
    """One that the victim notices."""
    os.kill(victim(facts), signal.SIGUSR1)


@probe("signals", 26)
def send_signal_to_thread(facts: Facts) -> None:
    """By its thread."""
    checked(libc.tgkill(victim(facts), victim(facts), 0))


@probe("signals", 26)
def queue_signal(facts: Facts) -> None:
    """With a value."""
    checked(libc.sigqueue(victim(facts), 0, None))


@probe("signals", 26)
def signal_by_descriptor(facts: Facts) -> None:
    """By a descriptor of the process."""
    call("pidfd_send_signal", os.pidfd_open(victim(facts)), 0, None, 0)


@probe("signals", 26, outside=True)
def signal_by_ownership(facts: Facts) -> None:
    """Make it the owner of a socket, which is told by a signal that there is something to read."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, victim(facts))
    fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGUSR2)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    theirs.send(b"x")


@probe("signals", 26, outside=True)
def signal_by_ioctl(facts: Facts) -> None:
    """The same by the older way to name an owner, and the older signal."""
    ours, theirs = socket.socketpair()
    fcntl.ioctl(ours, _FIOSETOWN, struct.pack("i", victim(facts)))
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    theirs.send(b"x")


@probe("signals", 26)
def signal_group(facts: Facts) -> None:
    """By its process group."""
    os.killpg(facts["group"] if victim(facts) else 0, 0)


@probe("signals", 60)
def stop_init(facts: Facts) -> None:
    """The init of the cell's namespace, or whoever is parent of the cell, by the null signal."""
    with open(f"/proc/{os.getppid()}/stat", "rb") as file:
        above = int(file.read().rpartition(b")")[2].split()[1])
    require(above > 1, "it is the init, which no signal of its own reaches")
    os.kill(above, 0)


# --- ending a stop, which the judge relies on: whatever has the kernel send SIGCONT


class _SignalEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("how", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


@probe("signals", 60)
def wake_by_timer(_: Facts) -> None:
    """A timer of the kernel that sends SIGCONT."""
    event, timer = _SignalEvent(None, signal.SIGCONT, 0), ctypes.c_int()
    call("timer_create", 1, ctypes.byref(event), ctypes.byref(timer))


@probe("signals", 60)
def wake_by_file(_: Facts) -> None:
    """SIGCONT as what a file sends that can be read."""
    ours, _theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGCONT)


@probe("signals", 60)
def wake_by_directory(_: Facts) -> None:
    """Be told by a signal of what is done in a directory."""
    directory = os.open(".", os.O_RDONLY)
    try:
        fcntl.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_CREATE)
    finally:
        os.close(directory)


@probe("signals", 60)
def wake_by_child(_: Facts) -> None:
    """A child whose end is told by SIGCONT."""
    pid = call("clone", signal.SIGCONT, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, _WALL)


# --- changing


@probe("signals", 30)
def limit_victim(facts: Facts) -> None:
    """Its limits, to what they are."""
    pid = victim(facts)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))


@probe("signals", 30)
def renice_victim(facts: Facts) -> None:
    """Its priority, to what it is."""
    pid = victim(facts)
    os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))


@probe("signals", 30)
def pin_victim(facts: Facts) -> None:
    """Its processors, to what they are."""
    pid = victim(facts)
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))


@probe("signals", 30)
def schedule_victim(facts: Facts) -> None:
    """Its scheduling, to what it is."""
    pid = victim(facts)
    os.sched_setscheduler(pid, os.sched_getscheduler(pid), os.sched_getparam(pid))


@probe("signals", 30)
def prioritise_victim(facts: Facts) -> None:
    """Its access to disks, to what it is."""
    pid = victim(facts)
    call("ioprio_set", 1, pid, call("ioprio_get", 1, pid))


@probe("signals", 31)
def offer_victim(facts: Facts) -> None:
    """To be killed first when memory is short."""
    os.close(os.open(f"{victim_proc(facts)}/oom_score_adj", os.O_WRONLY))


@probe("signals", 31)
def rename_victim(facts: Facts) -> None:
    """Its name."""
    os.close(os.open(f"{victim_proc(facts)}/comm", os.O_WRONLY))


# --- reading


@probe("ptrace", 27)
def read_victim_memory(facts: Facts) -> None:
    """By the file of it."""
    os.close(os.open(f"{victim_proc(facts)}/mem", os.O_RDONLY))


@probe("ptrace", 27)
def read_victim_environment(facts: Facts) -> None:
    """What it was started with."""
    _read(f"{victim_proc(facts)}/environ")


@probe("ptrace", 27)
def read_victim_maps(facts: Facts) -> None:
    """Where its memory is."""
    _read(f"{victim_proc(facts)}/maps")


@probe("ptrace", 27)
def open_victim_files(facts: Facts) -> None:
    """Its open files."""
    where = f"{victim_proc(facts)}/fd"
    for fd in os.listdir(where):
        os.readlink(f"{where}/{fd}")


@probe("ptrace", 27)
def read_service_memory(facts: Facts) -> None:
    """The service's own."""
    os.close(os.open(f"{victim_proc(facts, 'service')}/mem", os.O_RDONLY))


@probe("ptrace", 27)
def read_service_environment(facts: Facts) -> None:
    """Where its credentials are."""
    _read(f"{victim_proc(facts, 'service')}/environ")


@probe("ptrace", 27)
def copy_victim_memory(facts: Facts) -> None:
    """Without a file."""
    buffer = ctypes.create_string_buffer(8)
    ours, theirs = _Vector(ctypes.addressof(buffer), 8), _Vector(facts["address"], 8)
    checked(libc.process_vm_readv(victim(facts), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0))


@probe("ptrace", 28)
def seize_victim(facts: Facts) -> None:
    """Trace it; it is let go with this process."""
    checked(libc.ptrace(_PTRACE_SEIZE, victim(facts), None, None))


@probe("ptrace", 28)
def seize_parent(_: Facts) -> None:
    """Trace this cell's first process."""
    checked(libc.ptrace(_PTRACE_SEIZE, os.getppid(), None, None))


@probe("ptrace", 29)
def take_victim_file(facts: Facts) -> None:
    """A copy of its standard input."""
    os.close(call("pidfd_getfd", os.pidfd_open(victim(facts)), 0, 0))


@probe("ptrace", 28)
def compare_victim(facts: Facts) -> None:
    """Whether it shares memory with this process, which orders its addresses."""
    call("kcmp", os.getpid(), victim(facts), 1, 0, 0)


@probe("ptrace", 28)
def advise_victim(facts: Facts) -> None:
    """Push its memory out."""
    vector = _Vector(facts["address"] & ~0xFFF, 4096)
    call("process_madvise", os.pidfd_open(victim(facts)), ctypes.byref(vector), 1, 20, 0)  # MADV_COLD


# --- secrets


@probe("secrets", 39)
def find_secret_in_environment(facts: Facts) -> None:
    """Of the service's, in this process's variables or in what it was started with."""
    with open("/proc/self/environ", "rb") as file:
        text = file.read() + repr(dict(os.environ)).encode()
    require(facts["terces"][::-1].encode() in text, "not there")


@probe("secrets", 39)
def find_secret_in_memory(facts: Facts) -> None:
    """Of the service's, anywhere in this process: what a fork would have brought along."""
    reversed_, found = facts["terces"].encode(), 0
    beginning = reversed_[:-9:-1]  # the whole is never put together here
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        areas = [line.split() for line in file]
    for area in areas:
        low, high = (int(each, 16) for each in area[0].split("-"))
        if not area[1].startswith("rw") or high - low > 64 << 20 or area[-1].startswith("[v"):
            continue
        held = memoryview((ctypes.c_char * (high - low)).from_address(low)).cast("B")
        for at in _occurrences(held, beginning):
            found += all(
                at + index < len(held) and held[at + index] == reversed_[-1 - index]
                for index in range(len(reversed_))
            )
    require(found, "not there")


def _occurrences(held: memoryview, wanted: bytes) -> list[int]:
    import re  # noqa: PLC0415 - searches without a copy

    return [match.start() for match in re.finditer(re.escape(wanted), held)]


@probe("secrets", 40)
def find_descriptors(facts: Facts) -> str:
    """Open ones, besides the standard three and what was passed on purpose."""
    known = {0, 1, 2, facts["pipe"], *facts["fds"]}
    open_ = []
    for fd in range(1024):
        try:
            os.fstat(fd)
        except OSError:
            continue
        if fd not in known:
            open_.append(fd)
    require(open_, "none")
    return " ".join(map(str, open_))
