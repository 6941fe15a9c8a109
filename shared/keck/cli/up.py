"""``keck up``: the whole system on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from keck.cli._live import status_of
from keck.cli._talk import print_data, print_json, say, settings_and_logs, stderr
from keck.embedded import Embedded
from keck.environment import unknown_variable_sentence
from keck.errors import BadRequest
from keck.settings import unknown_variables
from keck.verdict import ExitCode

__all__ = ["up"]

_DRAIN_S = 60.0
_REDRAW_S = 1.0


def up(
    *,
    compilers: Annotated[int, typer.Option(min=1, help="Compiler processes.")] = 1,
    devices: Annotated[
        str, typer.Option(help="auto (one executor per GPU, else one for the CPU), or cpu,cuda:0,…")
    ] = "auto",
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Gateway's port; 0: any free one. [default: 8000]")
    ] = None,
    nats_port: Annotated[int, typer.Option(min=-1, max=65535, help="NATS port; -1: any free one.")] = 4222,
    directory: Annotated[
        Path | None, typer.Option(help="Streams, logs, caches. [default: KECK_STATE_DIR]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Where it listens as one line of JSON.")] = False,
) -> None:
    """Run nats-server, gateway, compilers and executors until Ctrl-C, which drains; a second one kills.

    All that this machine has: `keck up`

    Two of its GPUs and three compilers: `keck up --devices cuda:0,cuda:1 --compilers 3`

    Beside another one, on ports that are free: `keck up --http-port 0 --nats-port -1 --directory /tmp/keck --json`
    """
    settings = settings_and_logs()
    for name, nearest in unknown_variables():
        say(f"keck: {unknown_variable_sentence(name, nearest)}")
    http = settings.http_port if http_port is None else http_port
    _require_free("--http-port", settings.http_host, http)
    _require_free("--nats-port", "127.0.0.1", nats_port)
    system = Embedded(
        directory=directory or settings.state_dir,
        compilers=compilers,
        devices=_devices(devices),
        http_port=http,
        nats_port=nats_port,
        settings_env={"KECK_HTTP_HOST": settings.http_host},
        report=lambda line: say(f"keck: {line}", style="yellow"),
    )
    raise typer.Exit(asyncio.run(_run(system, json=json)))


async def _run(system: Embedded, *, json: bool) -> int:
    stop = asyncio.Event()

    def received() -> None:
        if stop.is_set():
            say("keck: killed")
            system.kill()
            os._exit(ExitCode.INFRASTRUCTURE)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, received)
    say(f"keck: starting in {system.directory} (devices: {', '.join(system.devices)})")
    if await _started(system, stop):
        _announce(system, json=json)
        await _show_until(stop, system)
    say("keck: draining; Ctrl-C again kills")
    await system.stop(grace_s=_DRAIN_S)
    say("keck: stopped")
    return ExitCode.PASSED


async def _started(system: Embedded, stop: asyncio.Event) -> bool:
    """Start the system; False if told to stop meanwhile."""
    start = asyncio.create_task(system.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([start, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not start.done():
        start.cancel()
        with suppress(asyncio.CancelledError):
            await start
        return False
    await start
    return True


def _announce(system: Embedded, *, json: bool) -> None:
    if json:
        services = {child.name: child.pid for child in system.processes}
        where = {"http_url": system.http_url, "nats_url": system.nats_url}
        print_json({**where, "directory": str(system.directory), "pid": os.getpid(), "services": services})
        return
    print_data(
        f"gateway  {system.http_url}\nNATS     {system.nats_url}\nlogs     {system.directory / 'logs'}"
    )


async def _show_until(stop: asyncio.Event, system: Embedded) -> None:
    """A table that is redrawn on a terminal; elsewhere one line, and later what dies and is restarted."""
    console = stderr()
    if not console.is_terminal:
        say("keck: ready")
        await stop.wait()
        return
    with Live(status_of(system), console=console, auto_refresh=False, transient=True) as live:
        while not stop.is_set():
            live.update(status_of(system), refresh=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _REDRAW_S)


def _devices(text: str) -> list[str]:
    """Raises BadRequest for what is no device."""
    devices = [part.strip() for part in text.split(",") if part.strip()]
    for device in devices:
        name, _, index = device.partition(":")
        if device not in ("auto", "cpu") and not (name == "cuda" and index.isdigit()):
            raise BadRequest(f"--devices {text}: {device!r} is none of auto, cpu, cuda:N")
    if not devices or len(set(devices)) != len(devices):
        raise BadRequest(f"--devices {text!r}: name each device once")
    return devices


def _require_free(option: str, host: str, port: int) -> None:
    """Say at once that a port is taken, rather than after a service could not bind it."""
    if port <= 0:
        return
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise BadRequest(
            f"{option} {port}: {os.strerror(error.errno or 0)} on {host}; name another port "
            f"({'-1' if option == '--nats-port' else '0'}: any free one)"
        ) from None
