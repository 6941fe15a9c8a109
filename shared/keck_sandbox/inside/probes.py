"""Attacks on whatever is outside, run from inside a cell: the service's self-test, and the tests'.

``python -I -S probes.py FACTS``, where FACTS is JSON that names the victims (``pid``,
``marker``, ``port``, ``socket``, ``directory``). Prints one JSON object: name of each probe to ``blocked``, ``open``
or what else happened. Each is harmless where it succeeds, and runs in a process of its own, which it may not survive.
Numbers are those of the design paper on the sandbox, section 4.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["PROBES", "main"]

_OPEN, _BLOCKED, _BROKEN = 0, 1, 2
_ALARM_S = 5
_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE, _CLONE_NEWUSER, _MS_BIND = 0x4206, 0x1000_0000, 4096
# The same on every architecture.
_PIDFD_OPEN, _PIDFD_SEND_SIGNAL, _IO_URING_SETUP, _PIDFD_GETFD = 434, 424, 425, 438

Facts = dict[str, Any]
PROBES: dict[str, tuple[str, Callable[[Facts], object]]] = {}
"""Name to the property that it attacks and the attack: it returns where it succeeds, and raises OSError where not."""


def _probe(what: str) -> Callable[[Callable[[Facts], object]], Callable[[Facts], object]]:
    def registered(attack: Callable[[Facts], object]) -> Callable[[Facts], object]:
        PROBES[attack.__name__] = (what, attack)
        return attack

    return registered


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _require(condition: bool) -> None:
    if not condition:
        raise OSError("held")


@_probe("fs_read")
def read_marker(facts: Facts) -> None:
    """1: a file that anybody may read."""
    with open(facts["marker"], "rb") as file:
        file.read()


@_probe("fs_read")
def read_through_link(facts: Facts) -> None:
    """4: the same by a symbolic link of the cell's own."""
    os.symlink(facts["marker"], "link")
    with open("link", "rb") as file:
        file.read()


@_probe("fs_read")
def read_through_parent(facts: Facts) -> None:
    """6: by the root directory of the service's process."""
    os.listdir(f"/proc/{facts['pid']}/root/")


@_probe("fs_read")
def read_shadow(_: Facts) -> None:
    """3: the system's passwords."""
    with open("/etc/shadow", "rb") as file:
        file.read()


@_probe("fs_read")
def hard_link_marker(facts: Facts) -> None:
    """5: a second name for it in the cell."""
    os.link(facts["marker"], "hard")


@_probe("stat")
def stat_outside(facts: Facts) -> None:
    """11: whether a file exists."""
    os.stat(facts["marker"])


@_probe("fs_write")
def append_to_marker(facts: Facts) -> None:
    """8: nothing, to a file of the service's."""
    os.close(os.open(facts["marker"], os.O_WRONLY | os.O_APPEND))


@_probe("fs_write")
def create_beside_marker(facts: Facts) -> None:
    """8: a file in its directory."""
    os.close(os.open(f"{facts['directory']}/new", os.O_WRONLY | os.O_CREAT))


@_probe("fs_write")
def truncate_marker(facts: Facts) -> None:
    """10: to the length it has."""
    os.truncate(facts["marker"], facts["size"])


@_probe("fs_write")
def write_interpreter(_: Facts) -> None:
    """7: open this very program for writing."""
    os.close(os.open(os.path.realpath(sys.executable), os.O_WRONLY))


@_probe("fs_write")
def write_own_input(_: Facts) -> None:
    """54: the directory that the service fills for the cell."""
    os.close(os.open("../new", os.O_WRONLY | os.O_CREAT))


@_probe("fs_write")
def write_core_pattern(_: Facts) -> None:
    """13: what the host starts when a process crashes."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


@_probe("net")
def connect_tcp(facts: Facts) -> None:
    """21: to a listener on this machine."""
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", facts["port"]))


@_probe("net")
def send_udp(facts: Facts) -> None:
    """22: a datagram to it."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", facts["port"]))


@_probe("net")
def open_netlink(_: Facts) -> None:
    """24: a socket to the kernel."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@_probe("ipc")
def connect_abstract(facts: Facts) -> None:
    """23: a socket of the service's without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect("\0" + facts["socket"])


@_probe("ipc")
def make_system_v_memory(_: Facts) -> None:
    """20: a segment that would outlive the cell."""
    _call(_libc.shmctl(_call(_libc.shmget(0, 4096, 0o600)), 0, None))


@_probe("signals")
def signal_service(facts: Facts) -> None:
    """26: none, which asks whether one could be sent."""
    os.kill(facts["pid"], 0)


@_probe("signals")
def signal_service_by_descriptor(facts: Facts) -> None:
    """26: the same by a descriptor of the process."""
    fd = _call(_libc.syscall(_PIDFD_OPEN, facts["pid"], 0))
    _call(_libc.syscall(_PIDFD_SEND_SIGNAL, fd, 0, None, 0))


@_probe("ptrace")
def trace_service(facts: Facts) -> None:
    """28: hold on to it; let go with this process's end."""
    _call(_libc.ptrace(_PTRACE_SEIZE, facts["pid"], None, None))


@_probe("ptrace")
def read_service_memory(facts: Facts) -> None:
    """27: by the file of it."""
    os.close(os.open(f"/proc/{facts['pid']}/mem", os.O_RDONLY))


@_probe("ptrace")
def read_service_environment(facts: Facts) -> None:
    """27: where its credentials are."""
    with open(f"/proc/{facts['pid']}/environ", "rb") as file:
        file.read()


@_probe("ptrace")
def take_service_descriptor(facts: Facts) -> None:
    """29: a copy of its standard input."""
    fd = _call(_libc.syscall(_PIDFD_OPEN, facts["pid"], 0))
    _call(_libc.syscall(_PIDFD_GETFD, fd, 0, 0))


@_probe("signals")
def renice_service(facts: Facts) -> None:
    """30: to the priority it has."""
    os.setpriority(os.PRIO_PROCESS, facts["pid"], os.getpriority(os.PRIO_PROCESS, facts["pid"]))


@_probe("privileges")
def hold_capabilities(_: Facts) -> None:
    """33: any, in any set, or the way to some."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    sets = [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Amb")]
    _require(any(sets) or status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2")


@_probe("privileges")
def be_root(_: Facts) -> None:
    """34: user 0."""
    _require(os.getuid() == 0)


@_probe("privileges")
def new_user_namespace(_: Facts) -> None:
    """35: where one would be root again."""
    _call(_libc.unshare(_CLONE_NEWUSER))


@_probe("privileges")
def mount_something(_: Facts) -> None:
    """35: a directory onto itself."""
    os.makedirs("place", exist_ok=True)
    _call(_libc.mount(b"place", b"place", None, ctypes.c_ulong(_MS_BIND), None))


@_probe("syscalls")
def open_io_uring(_: Facts) -> None:
    """36: a way around the filter."""
    _call(_libc.syscall(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120)))


@_probe("devices")
def make_device(_: Facts) -> None:
    """15: the memory of the machine."""
    os.mknod("mem", 0o20600, os.makedev(1, 1))
    os.unlink("mem")


@_probe("devices")
def open_memory(_: Facts) -> None:
    """14: the same, where it is."""
    os.close(os.open("/dev/mem", os.O_RDONLY))


@_probe("secrets")
def find_secret(facts: Facts) -> None:
    """39: what the service has in its environment."""
    with open("/proc/self/environ", "rb") as file:
        _require(facts["secret"][::-1].encode() in file.read())


@_probe("secrets")
def find_descriptors(_: Facts) -> None:
    """40: any besides the standard three and this program's own pipe."""
    open_ = 0
    for fd in range(3, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        open_ += 1
    _require(open_ > 1)


def main() -> None:
    """Try everything, print what came of it."""
    facts = json.loads(sys.argv[1])
    print(json.dumps({name: _tried(attack, facts) for name, (_, attack) in PROBES.items()}))


def _tried(attack: Callable[[Facts], object], facts: Facts) -> str:
    pid = os.fork()
    if pid == 0:
        signal.alarm(_ALARM_S)
        ended = _OPEN
        try:
            attack(facts)
        except OSError:
            ended = _BLOCKED
        except BaseException:  # noqa: BLE001 - a probe that is wrong must be told from one that was refused
            sys.excepthook(*sys.exc_info())
            ended = _BROKEN
        os._exit(ended)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"blocked by signal {os.WTERMSIG(status)}"
    return ("open", "blocked", "broken")[min(os.WEXITSTATUS(status), _BROKEN)]


if __name__ == "__main__":
    main()
