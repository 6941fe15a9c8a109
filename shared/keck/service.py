"""What every service's ``__main__`` does around its own work: connect, watch the connection, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import nats.errors

from keck.bus import Bus, connect
from keck.consumer import Consumer
from keck.errors import SettingError, Unavailable
from keck.fleet import Beat
from keck.logs import logger
from keck.settings import Settings
from keck.verdict import ExitCode
from keck_sandbox.inside.linux import set_dumpable

__all__ = ["consume", "run_service"]

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
_CHECK_EVERY_S: Final = 5.0
_RTT_TIMEOUT_S: Final = 2
_CHECKS_MISSED: Final = 3


async def run_service(
    settings: Settings, *, name: str, main: Callable[[Bus, asyncio.Event], Awaitable[None]]
) -> int:
    """Run `main(bus, stop)` until it returns; the process's exit code.

    SIGTERM and SIGINT set `stop`, upon which `main` should finish what it has and return; a second signal
    cancels it. A connection that is lost for good ends the process, whose supervisor starts it again.
    """
    # Credentials are in here: nothing else of this user is to read this memory or these descriptors.
    set_dumpable(False)
    stop = asyncio.Event()
    lost = asyncio.Event()
    with _signals(stop) as again:
        try:
            bus = await _connect(settings, name=name, stop=stop, on_closed=lost.set)
        except SettingError as error:
            logger().error("setting_unusable", error=str(error))
            return ExitCode.USAGE
        if bus is None:
            return ExitCode.PASSED
        logger().info("service_started", name=name)
        work = asyncio.ensure_future(main(bus, stop))
        guards = [
            asyncio.create_task(lost.wait(), name="bus-lost"),
            asyncio.create_task(_watchdog(bus), name="bus-watchdog"),
            asyncio.create_task(again.wait(), name="second-signal"),
        ]
        try:
            await asyncio.wait([work, *guards], return_when=asyncio.FIRST_COMPLETED)
            return await _outcome(work, stop)
        finally:
            for guard in guards:
                guard.cancel()
            await asyncio.gather(*guards, return_exceptions=True)
            await bus.close()


async def consume(consumer: Consumer[Any], stop: asyncio.Event, *, beat: Beat, grace_s: float) -> None:
    """Run a consumer and its heartbeat until `stop`; what is in hand may then finish for `grace_s` seconds.

    Raises:
        ConsumerGone: a durable consumer was deleted.
    """
    beating = asyncio.create_task(beat.run(), name="heartbeat")
    running = asyncio.create_task(consumer.run(), name="consumer")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await consumer.drain(grace_s)
        await running
    finally:
        for task in (beating, running, stopping):
            task.cancel()
        await asyncio.gather(beating, running, stopping, return_exceptions=True)


async def _outcome(work: asyncio.Future[None], stop: asyncio.Event) -> int:
    if not work.done():
        logger().error("service_cut_short", stopping=stop.is_set())
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return ExitCode.INFRASTRUCTURE
    error = None if work.cancelled() else work.exception()
    if error is None:
        logger().info("service_stopped")
        return ExitCode.PASSED
    if isinstance(error, Unavailable):
        logger().error("service_unavailable", error=str(error))
    else:
        logger().error("service_failed", exc_info=error)
    return ExitCode.INFRASTRUCTURE


async def _connect(
    settings: Settings, *, name: str, stop: asyncio.Event, on_closed: Callable[[], None]
) -> Bus | None:
    """Connect, however long the server takes to appear; None if told to stop before."""
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            return await connect(settings, name=name, on_closed=on_closed)
        except Unavailable as error:
            logger().warning("bus_unavailable", error=str(error), next_attempt_s=pause_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
    return None


async def _watchdog(bus: Bus) -> None:
    """Return when the connection claims to be up but answers nothing.

    An exception in the client's reader leaves it in exactly that state for ever. Being disconnected is no
    such case: the client reconnects by itself.
    """
    missed = 0
    while missed < _CHECKS_MISSED:
        await asyncio.sleep(_CHECK_EVERY_S)
        if not bus.nc.is_connected:
            missed = 0
            continue
        try:
            await bus.nc.rtt(timeout=_RTT_TIMEOUT_S)
            missed = 0
        except (TimeoutError, nats.errors.Error) as error:
            missed += 1
            logger().warning("bus_does_not_answer", missed=missed, error=str(error))


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[asyncio.Event]:
    """The first signal sets `stop`, a second one the event that is yielded."""
    loop = asyncio.get_running_loop()
    again = asyncio.Event()

    def received(number: signal.Signals) -> None:
        logger().info("signal_received", signal=number.name)
        (again if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    try:
        yield again
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
