"""Server-sent events out of lines, as far as Keck uses them: names and data."""

from __future__ import annotations

from collections.abc import AsyncIterator

__all__ = ["server_sent_events"]


async def server_sent_events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
    """Each event's name (``message`` if it gives none) and data; comments and other fields are left out."""
    name, data = "message", list[str]()
    async for line in lines:
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
