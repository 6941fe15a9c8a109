"""Lines of a response, which end at a line feed and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator

__all__ = ["lines_of"]


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a body without their ends; what follows the last line feed is cut short and left out.

    `httpx` has lines too, but ends them at all that Unicode calls a line's end, which JSON may hold as it is.
    """
    rest = bytearray()
    async for chunk in chunks:
        begin = len(rest)
        rest += chunk
        while (end := rest.find(b"\n", begin)) >= 0:
            yield rest[:end].decode().removesuffix("\r")
            del rest[: end + 1]
            begin = 0
