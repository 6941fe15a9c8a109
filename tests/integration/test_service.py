"""The frame of every service: it waits for the bus, stops when told, and ends when the bus is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from nats.aio.client import Client

from keck import service
from keck.bus import Bus
from keck.service import run_service
from keck.settings import Settings
from keck.testing import NatsServer, async_wait_until
from keck.verdict import ExitCode


class _Main:
    """A service that works until it is told to stop."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.bus: Bus | None = None
        self.saw_stop = False
        self._stubborn = stubborn

    async def __call__(self, bus: Bus, stop: asyncio.Event) -> None:
        self.bus = bus
        await stop.wait()
        self.saw_stop = True
        if self._stubborn:
            await asyncio.Event().wait()


def _settings(server: NatsServer) -> Settings:
    return Settings(nats_url=server.url)


async def test_a_service_stops_in_order_when_asked_to(nats_server: NatsServer) -> None:
    main = _Main()
    running = asyncio.create_task(run_service(_settings(nats_server), name="test", main=main))
    await async_wait_until(lambda: main.bus)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == ExitCode.PASSED
    assert main.saw_stop
    assert main.bus is not None
    assert main.bus.nc.is_closed


async def test_a_second_signal_cuts_a_stubborn_service_short(nats_server: NatsServer) -> None:
    main = _Main(stubborn=True)
    running = asyncio.create_task(run_service(_settings(nats_server), name="test", main=main))
    await async_wait_until(lambda: main.bus)
    os.kill(os.getpid(), signal.SIGINT)
    await async_wait_until(lambda: main.saw_stop)
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == ExitCode.INFRASTRUCTURE


async def test_a_service_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    server = NatsServer(tmp_path).start()
    server.kill()
    main = _Main()
    running = asyncio.create_task(run_service(_settings(server), name="test", main=main))
    try:
        await asyncio.to_thread(server.start)
        await async_wait_until(lambda: main.bus, 10)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == ExitCode.PASSED
    finally:
        server.stop()


async def test_a_service_that_never_found_its_server_can_be_stopped() -> None:
    running = asyncio.create_task(
        run_service(Settings(nats_url="nats://127.0.0.1:1"), name="test", main=_Main())
    )
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == ExitCode.PASSED


async def test_a_failure_of_the_service_is_the_exit_code(nats_server: NatsServer) -> None:
    async def fail(bus: Bus, stop: asyncio.Event) -> None:
        raise RuntimeError("on purpose")

    assert await run_service(_settings(nats_server), name="test", main=fail) == ExitCode.INFRASTRUCTURE


async def test_a_connection_closed_for_good_ends_the_service(nats_server: NatsServer) -> None:
    main = _Main()
    running = asyncio.create_task(run_service(_settings(nats_server), name="test", main=main))
    await async_wait_until(lambda: main.bus)
    assert main.bus is not None
    await main.bus.nc.close()
    assert await running == ExitCode.INFRASTRUCTURE


async def test_a_connection_that_only_looks_alive_ends_the_service(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(self: Client, timeout: float) -> float:
        raise TimeoutError

    monkeypatch.setattr(service, "_CHECK_EVERY_S", 0.01)
    monkeypatch.setattr(Client, "rtt", no_answer)
    assert await run_service(_settings(nats_server), name="test", main=_Main()) == ExitCode.INFRASTRUCTURE


async def test_being_disconnected_for_a_while_does_not_end_the_service(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_CHECK_EVERY_S", 0.01)
    main = _Main()
    running = asyncio.create_task(run_service(_settings(nats_server), name="test", main=main))
    await async_wait_until(lambda: main.bus)
    assert main.bus is not None
    nats_server.kill()
    await async_wait_until(lambda: main.bus and not main.bus.nc.is_connected)
    await asyncio.to_thread(nats_server.start)
    await async_wait_until(lambda: main.bus and main.bus.nc.is_connected, 10)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == ExitCode.PASSED
