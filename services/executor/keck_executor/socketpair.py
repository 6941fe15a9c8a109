"""SEQPACKET sockets between our processes: one datagram is one message."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["pair", "receive"]

_BUFFER_BYTES = 1 << 20
_MAX_DATAGRAM = 512 * 1024


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, with room for the largest reply."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


async def receive(sock: socket.socket, *, timeout_s: float) -> bytes:
    """The next datagram of a non-blocking socket; empty where the other end is gone.

    Raises:
        TimeoutError: nothing came in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().sock_recv(sock, _MAX_DATAGRAM)
    except ConnectionResetError:
        return b""
