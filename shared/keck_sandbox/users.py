"""Users for cells, where the service is root: numbers that no account has, none held by two cells at a time."""

from __future__ import annotations

import errno
import socket

__all__ = ["SHARED", "lease_user", "release_user"]

_FIRST = 20_000
_BLOCK = 64
_BLOCKS = 256
SHARED = 0
"""Place in the block of the user that cells of one device share."""


class _Block:
    """A run of numbers that belongs to this process as long as it lives."""

    def __init__(self) -> None:
        claim, self.first = _claim()
        claim.detach()  # open until the process ends, however it ends
        self.held: set[int] = set()


def _claim() -> tuple[socket.socket, int]:
    """A name in the abstract name space is free again the moment its process is gone, however it went."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for number in range(_BLOCKS):
        try:
            claim.bind(f"\0keck-users-{number}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return claim, _FIRST + number * _BLOCK
    claim.close()
    raise OSError(errno.EAGAIN, f"{_BLOCKS} services of this machine hold all users there are for cells")


_block: list[_Block] = []


def lease_user(*, shared: bool) -> int:
    """A user number; the shared one, or one that no other cell has until it is released.

    Raises:
        OSError: none is left.
    """
    if not _block:
        _block.append(_Block())
    block = _block[0]
    if shared:
        return block.first + SHARED
    for number in range(block.first + SHARED + 1, block.first + _BLOCK):
        if number not in block.held:
            block.held.add(number)
            return number
    raise OSError(errno.EAGAIN, f"{_BLOCK - 1} cells run at once: there is no user left for another")


def release_user(uid: int) -> None:
    """The cell is gone: its number may be given to the next."""
    if _block:
        _block[0].held.discard(uid)
