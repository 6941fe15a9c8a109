"""A service that beats until it is told to stop. `STAND_IN_FAILS` names roles that end at once."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from keck import logs, settings
from keck.bus import Bus
from keck.fleet import Beat
from keck.messages import Heartbeat
from keck.service import run_service


async def _healthz(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    await writer.drain()
    writer.close()


def run(role: str) -> None:
    """The whole service."""
    if role in os.environ.get("STAND_IN_FAILS", "").split(","):
        sys.exit(f"{role}: told to fail")
    effective = settings.load()
    logs.configure(effective, service=role)
    began = time.time()

    async def main(bus: Bus, stop: asyncio.Event) -> None:
        wanted = effective.http_port if role == "gateway" else 0
        server = await asyncio.start_server(_healthz, "127.0.0.1", wanted)
        port = server.sockets[0].getsockname()[1]

        def make() -> Heartbeat:
            return Heartbeat(
                worker=effective.worker, role=role, host="here", pid=os.getpid(), version="0",  # type: ignore[arg-type]
                started_at=began, at=time.time(), slots=1, busy=0,
                target=effective.device if role == "executor" else "",
                facts={"url": f"http://127.0.0.1:{port}"},
            )  # fmt: skip

        beating = asyncio.create_task(Beat(bus, make, every_s=0.2).run())
        async with server:
            await stop.wait()
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    sys.exit(asyncio.run(run_service(effective, name=role, main=main)))
