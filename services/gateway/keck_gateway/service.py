"""The gateway's life: provision, listen, beat, serve, stop in order."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AsyncExitStack

from keck.bus import Bus
from keck.fleet import Beat, Fleet
from keck.logs import logger
from keck.messages import Heartbeat
from keck.settings import Settings
from keck.streams import provision
from keck.worker import Worker
from keck_gateway.app import build_app
from keck_gateway.desk import Desk
from keck_gateway.limits import connections_for
from keck_gateway.nats_service import NatsService
from keck_gateway.server import HttpServer, tls_files, url_of
from keck_gateway.targets import Targets
from keck_gateway.undelivered import Undelivered

__all__ = ["raise_open_files_limit", "serve"]

_GRACE_S = 1.0
"""After SIGTERM, for verdicts that are about to arrive; whoever waits longer gets a 503."""
_OPEN_FILES = 65_536


async def serve(bus: Bus, stop: asyncio.Event, *, settings: Settings, bound: socket.socket) -> None:
    """Run the gateway on the socket until `stop` is set.

    Raises:
        SettingError: files that the settings name cannot be used.
    """
    tls = tls_files(settings)
    await provision(bus, storage=settings.storage)
    fleet = Fleet(bus)
    await fleet.start()
    desk = Desk(bus=bus, fleet=fleet, settings=settings)
    url = url_of(bound, encrypted=tls is not None)
    http = HttpServer(build_app(desk), bound, tls=tls, max_connections=connections_for(settings.max_waiting))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fleet.stop)
        await stack.enter_async_context(desk.open())
        await stack.enter_async_context(NatsService(desk).listening())
        serving = await stack.enter_async_context(http.serving())
        background = [
            asyncio.create_task(Targets(bus, fleet).run(), name="targets"),
            asyncio.create_task(desk.overdue.run(), name="overdue"),
            asyncio.create_task(Undelivered(bus, desk.closing).run(), name="undelivered"),
            asyncio.create_task(_beat(bus, desk, url=url).run(), name="beat"),
        ]
        stack.push_async_callback(_cancel, background)
        logger().info("gateway_listening", url=url)
        await _until_stopped(stop, serving, *background)
        http.stop_accepting()
        desk.replays.close()
        await desk.waiters.close(grace_s=_GRACE_S)


def raise_open_files_limit() -> None:
    """Let thousands wait at once: each holds a connection, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _until_stopped(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for `stop`; none of the tasks ends by itself, so one that does takes the service with it."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
                raise RuntimeError(f"{task.get_name()} ended by itself")
    finally:
        stopping.cancel()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _beat(bus: Bus, desk: Desk, *, url: str) -> Beat:
    worker = Worker.of(desk.settings, "gateway")

    def make() -> Heartbeat:
        return worker.heartbeat(slots=desk.settings.max_waiting, busy=desk.waiters.count, facts={"url": url})

    return Beat(bus, make)
