"""Taking all there is: space, files, processes; and staying when the cell is over."""

from __future__ import annotations

import _thread
import contextlib
import os
import resource
import signal

from keck_sandbox.inside.probes.kernel import call, libc
from keck_sandbox.inside.probes.registry import Facts, probe, require

__all__: list[str] = []

_MEBIBYTE = 1 << 20
_PR_SET_NAME = 15
_CLONE_PARENT = 0x8000
_DAEMON_S = 20


@probe("disk", 16, heavy=True)
def fill_with_one_file(facts: Facts) -> str:
    """Twice what the work directory may hold."""
    try:
        with open("large", "wb", buffering=0) as file:
            for _ in range(2 * facts["work_bytes"] // _MEBIBYTE + 2):
                require(file.write(bytes(_MEBIBYTE)) == _MEBIBYTE, "a part only")
    finally:
        written = os.stat("large").st_size
        os.unlink("large")
    return f"{written} bytes"


@probe("disk", 17, heavy=True)
def fill_with_many_files(facts: Facts) -> str:
    """The same in files that are no larger than a file may be."""
    made = 0
    try:
        for number in range(2 * facts["work_bytes"] // _MEBIBYTE + 2):
            with open(f"part{number}", "wb", buffering=0) as file:
                made = number + 1
                require(file.write(bytes(_MEBIBYTE)) == _MEBIBYTE, "a part only")
    finally:
        for number in range(made):
            os.unlink(f"part{number}")
    return f"{made} files"


@probe("inodes", 18, heavy=True)
def fill_with_empty_files(facts: Facts) -> str:
    """Twice as many files as the work directory may hold."""
    made = 0
    try:
        for number in range(2 * facts["work_inodes"]):
            os.close(os.open(f"empty{number}", os.O_WRONLY | os.O_CREAT))
            made = number + 1
    finally:
        for number in range(made):
            os.unlink(f"empty{number}")
    return f"{made} files"


@probe("disk", 19, heavy=True)
def fill_shm(facts: Facts) -> str:
    """Twice what /dev/shm may hold."""
    name = f"/dev/shm/fill-{facts['token']}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(fd, 0, 2 * facts["shm_bytes"])
    finally:
        os.unlink(name)
        os.close(fd)
    return f"{2 * facts['shm_bytes']} bytes"


@probe("memory", 46)
def make_sibling(_: Facts) -> None:
    """A child of this process's parent: whoever adds up the memory of descendants does not see it."""
    pid = call("clone", _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)


@probe("pids", 41, heavy=True)
def fork_many(facts: Facts) -> str:
    """Twice as many processes as there may be."""
    children: list[int] = []
    read, write = os.pipe()
    try:
        for _ in range(2 * facts["processes"]):
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)  # until the parent is gone, or lets go
                os._exit(0)
            children.append(pid)
    finally:
        os.close(write)
        for pid in children:
            os.waitpid(pid, 0)
    return f"{len(children)} processes"


@probe("pids", 43, heavy=True)
def start_threads(facts: Facts) -> str:
    """Two thousand threads, or twice as many as there may be."""
    wanted = min(2_000, 2 * facts["processes"])
    gate = _thread.allocate_lock()
    gate.acquire()
    _thread.stack_size(64 * 1024)
    started = 0
    try:
        for _ in range(wanted):
            _thread.start_new_thread(gate.acquire, (True, 60))
            started += 1
    except RuntimeError as error:  # what Python makes of EAGAIN
        raise BlockingIOError(f"{started} threads: {error}") from error
    return f"{started} threads"  # they end with this process


@probe("end", 44, outside=True)
def leave_daemon(facts: Facts) -> None:
    """A process that left the session, hears no hangup, and has a name to find it by."""
    if os.fork():
        return
    with contextlib.suppress(OSError):
        os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.alarm(_DAEMON_S)
    libc.prctl(_PR_SET_NAME, f"kp-{facts['token']}".encode(), 0, 0, 0)
    os.closerange(0, 1024)
    signal.pause()
    os._exit(0)


@probe("disk", 56)
def dump_core(_: Facts) -> None:
    """Leave one's memory to whatever collects crashes."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        return
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGABRT)
        signal.pause()
    require(os.WCOREDUMP(os.waitpid(pid, 0)[1]), "none")


@probe("cpu", 47)
def raise_limits(_: Facts) -> str:
    """Of this process itself, beyond what they were set to."""
    open_ = []
    for name in ("CORE", "NOFILE", "FSIZE", "NPROC", "MSGQUEUE", "RTPRIO"):
        which = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY:
            continue
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (soft, hard + 1))
            open_.append(name)
    require(open_, "none")
    return " ".join(open_)


@probe("cpu", 47)
def take_real_time(_: Facts) -> None:
    """Run before everybody else."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
