"""What a process printed, bounded: half from the head, half from the tail."""

from __future__ import annotations

import re

__all__ = ["CappedLog"]

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class CappedLog:
    """Keeps the first and the last bytes of a stream of any length."""

    def __init__(self, limit_bytes: int) -> None:
        self._head_limit = limit_bytes // 2
        self._tail_limit = limit_bytes - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0
        """Bytes ever written."""

    def write(self, data: bytes) -> None:
        """Take in more output."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            # Trimmed in steps: cutting at every write would copy the tail again and again under a flood.
            if len(self._tail) > 2 * self._tail_limit:
                del self._tail[: -self._tail_limit]

    def text(self) -> str:
        """Head and tail for people: escape sequences and control characters removed, the cut marked."""
        tail = bytes(self._tail[-self._tail_limit :])
        dropped = self.total - len(self._head) - len(tail)
        cut = f"\n... {dropped} bytes left out ...\n".encode() if dropped > 0 else b""
        text = (bytes(self._head) + cut + tail).decode("utf-8", "replace").replace("\r\n", "\n")
        return _CONTROLS.sub("", _ESCAPES.sub("", text))
