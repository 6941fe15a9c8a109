"""Reaching anybody: the network, sockets of this machine, and what the kernel keeps between processes."""

from __future__ import annotations

import ctypes
import os
import socket

from keck_sandbox.inside.probes.kernel import call, checked, libc
from keck_sandbox.inside.probes.registry import Facts, Unsupported, probe, require

__all__: list[str] = []

_IPC_CREAT, _IPC_RMID = 0o1000, 0
_AF_ALG, _AF_VSOCK, _AF_PACKET, _AF_XDP = 38, 40, 17, 44


def _connect(family: int, kind: int, address: tuple[str, int] | str) -> None:
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)


@probe("net", 21)
def connect_tcp(facts: Facts) -> None:
    """A listener on this machine."""
    _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp_port"]))


@probe("net", 21)
def connect_tcp6(facts: Facts) -> None:
    """The same by IPv6."""
    if not facts["tcp6_port"]:
        raise Unsupported("no IPv6")
    _connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", facts["tcp6_port"]))


@probe("net", 21)
def fast_open_tcp(facts: Facts) -> None:
    """The same with the first data in place of a connect."""
    with socket.socket() as sock:
        sock.sendto(b"x", 0x20000000, ("127.0.0.1", facts["tcp_port"]))  # MSG_FASTOPEN


@probe("net", 21)
def listen_tcp(_: Facts) -> None:
    """Be reachable oneself."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()


@probe("net", 22, outside=True)
def send_udp(facts: Facts) -> None:
    """A datagram to this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"send_udp", ("127.0.0.1", facts["udp_port"]))


@probe("net", 25)
def find_route(_: Facts) -> None:
    """Whether there is a way to a cloud's metadata; nothing is sent."""
    _connect(socket.AF_INET, socket.SOCK_DGRAM, ("169.254.169.254", 80))


@probe("net", 24)
def open_netlink(_: Facts) -> None:
    """A socket to the kernel's network."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@probe("net", 24)
def open_packet(_: Facts) -> None:
    """A socket to everybody's packets."""
    socket.socket(_AF_PACKET, socket.SOCK_RAW).close()


@probe("net", 24)
def open_raw(_: Facts) -> None:
    """A socket to forge packets with."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


@probe("net", 24)
def open_vsock(_: Facts) -> None:
    """A socket to the host of this virtual machine."""
    socket.socket(_AF_VSOCK, socket.SOCK_STREAM).close()


@probe("net", 24)
def open_rare_families(_: Facts) -> str:
    """Sockets of families that are rarely used and often wrong."""
    open_ = []
    for family in range(3, 46):
        if family in (socket.AF_INET6, socket.AF_NETLINK, _AF_PACKET, _AF_VSOCK):
            continue
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            open_.append(str(family))
            break
    require(open_, "none")
    return " ".join(open_)


@probe("net", 24, 36)
def open_io_uring(_: Facts) -> None:
    """A way to make sockets, and more, that no filter sees."""
    os.close(call("io_uring_setup", 1, ctypes.create_string_buffer(120)))


@probe("ipc", 23)
def connect_abstract(facts: Facts) -> None:
    """A socket of the service's without a file."""
    _connect(socket.AF_UNIX, socket.SOCK_SEQPACKET, "\0" + facts["abstract"])


@probe("ipc", 23)
def connect_path(facts: Facts) -> None:
    """A socket of the service's that anybody may connect to."""
    _connect(socket.AF_UNIX, socket.SOCK_STREAM, facts["socket"])


@probe("ipc", 23, outside=True)
def send_to_path(facts: Facts) -> None:
    """A datagram to one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"send_to_path", facts["datagrams"])


@probe("ipc", 23, outside=True)
def send_by_pair(facts: Facts) -> None:
    """The same from one end of a pair of sockets, which any cell may make: an address given with each datagram."""
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendto(b"send_by_pair", facts["datagrams"])


@probe("ipc", 23, outside=True)
def send_to_abstract(facts: Facts) -> None:
    """The same to a socket without a file."""
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendto(b"send_to_abstract", "\0" + facts["abstract_datagrams"])


@probe("ipc", 23)
def connect_pair(facts: Facts) -> None:
    """One end of a pair of sockets, to somebody else."""
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.connect(facts["datagrams"])
    ours.send(b"connect_pair")


@probe("ipc", 23)
def connect_daemons(facts: Facts) -> str:
    """Those of the system's that are there: Docker's, systemd's and the like."""
    if not facts["daemons"]:
        raise Unsupported("there are none")
    open_ = []
    for path in facts["daemons"]:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                _connect(socket.AF_UNIX, kind, path)
            except OSError:
                continue
            open_.append(path)
    require(open_, "refused")
    return " ".join(open_)


@probe("ipc", 20)
def bind_abstract(facts: Facts) -> None:
    """A name that another cell could connect to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(f"\0keck-left-{facts['token']}")
        sock.listen()
        _connect(socket.AF_UNIX, socket.SOCK_SEQPACKET, f"\0keck-left-{facts['token']}")


@probe("ipc", 20)
def make_system_v_memory(_: Facts) -> None:
    """A segment of memory that outlives processes."""
    checked(libc.shmctl(checked(libc.shmget(0, 4096, _IPC_CREAT | 0o600)), _IPC_RMID, None))


@probe("ipc", 20)
def make_system_v_semaphore(_: Facts) -> None:
    """A semaphore that does."""
    checked(libc.semctl(checked(libc.semget(0, 1, _IPC_CREAT | 0o600)), 0, _IPC_RMID))


@probe("ipc", 20)
def make_system_v_queue(_: Facts) -> None:
    """A queue of messages that does."""
    checked(libc.msgctl(checked(libc.msgget(0, _IPC_CREAT | 0o600)), _IPC_RMID, None))


@probe("ipc", 20)
def make_posix_queue(facts: Facts) -> None:
    """Another."""
    name = ctypes.c_char_p(f"keck-{facts['token']}".encode())
    fd = call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, None)
    os.close(fd)
    call("mq_unlink", name)


@probe("ipc", 20, 36)
def add_key(_: Facts) -> None:
    """A key, in this process's own ring."""
    kind, name, value = (ctypes.c_char_p(each) for each in (b"user", b"keck", b"x"))
    call("add_key", kind, name, value, 1, -2)


@probe("ipc", 20)
def read_keyring(_: Facts) -> None:
    """The number of the user's ring, which all processes of a user share."""
    call("keyctl", 0, -4, 0)
