"""Start, watch, restart and stop the processes of a whole system."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from keck.bus import Bus
from keck.embedded._devices import devices_here
from keck.embedded._nats_server import ANY_PORT, NatsServerProcess
from keck.embedded._process import ChildProcess
from keck.embedded._readiness import gateway_answers, url_of, worker_of
from keck.errors import BadRequest, Unavailable
from keck.fleet import Fleet
from keck.nats_config import new_passwords
from keck.private_file import write_private
from keck.settings import Settings
from keck.streams import provision

__all__ = ["Embedded"]

_POLL_S: Final = 0.05
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_HEALTHY_AFTER_S: Final = 60.0
_KILL_WAIT_S: Final = 5.0
_LEAST_GRACE_S: Final = 2.0
_NOT_INHERITED: Final = frozenset(
    {
        "KECK_URL",
        "KECK_NATS_USER",
        "KECK_NATS_PASSWORD",
        "KECK_NATS_TLS_CA",
        "KECK_NATS_TLS_CERT",
        "KECK_NATS_TLS_KEY",
        "KECK_WORKER",
        "KECK_HTTP_HOST",
    }
)
"""They speak of another system, or would make two workers share a name."""
_ROLES: Final = ("gateway", "compiler", "executor", "orchestrator", "observer")
_CLIENT_ROLE: Final = "orchestrator"


class Embedded:
    """nats-server, a gateway, compilers and executors on this machine, as an async context manager.

    A service that dies is started again; all of them end with this process, however it ends. The kernel ties
    them to the *thread* that starts them, so run it from one that stays.

    Each service logs in to the bus as its own role and nothing else. Whoever names no user is an orchestrator, as
    whoever speaks HTTP without a token may submit; with a token on the gateway neither is let in, and
    `client_settings` or the file `nats/clients.env` has what an orchestrator logs in with.

    Args:
        directory: streams, logs and caches; one system at a time.
        devices: ``auto``: one executor per GPU, or one for the CPU; else any of ``cpu``, ``cuda:N``.
        http_port: 0: any free one.
        nats_port: -1: any free one.
        settings_env: environment variables for the services, over those of this process.
        report: hears one line for people when a service dies or is started again.
    """

    def __init__(
        self,
        *,
        directory: Path,
        compilers: int = 1,
        devices: Sequence[str] = ("auto",),
        http_port: int = 0,
        nats_port: int = ANY_PORT,
        settings_env: Mapping[str, str] | None = None,
        start_timeout_s: float = 120.0,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = directory.expanduser().resolve()
        self.devices = tuple(devices_here() if "auto" in devices else devices)
        self.nats_url = ""
        self.http_url = ""
        self._compilers = compilers
        self._http_port = http_port
        self._nats_port = nats_port
        self._settings_env = dict(settings_env or {})
        self._start_timeout_s = start_timeout_s
        self._report = report or (lambda line: None)
        self._lock: IO[str] | None = None
        self._nats: NatsServerProcess | None = None
        # Made afresh for each system and known to this process and, one each, to the services.
        self._passwords = new_passwords(*_ROLES)
        self._services: list[ChildProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._bus: Bus | None = None
        self._fleet: Fleet | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def fleet(self) -> Fleet:
        """The live view of this system's workers."""
        if self._fleet is None:
            raise BadRequest("the system is not started")
        return self._fleet

    @property
    def bus(self) -> Bus:
        """This system's own connection, with the gateway's rights."""
        if self._bus is None:
            raise BadRequest("the system is not started")
        return self._bus

    def client_settings(self, settings: Settings) -> Settings:
        """The settings of a client of this system, on its bus as an orchestrator."""
        return dataclasses.replace(
            settings,
            nats_url=self.nats_url,
            nats_user=_CLIENT_ROLE,
            nats_password=self._passwords[_CLIENT_ROLE],
        )

    @property
    def processes(self) -> list[ChildProcess]:
        """All children: the server first, then the services."""
        return [*([self._nats] if self._nats is not None else []), *self._services]

    async def start(self) -> None:
        """Start everything and return once all of it is ready.

        Raises:
            Unavailable: something did not start; the message names it and ends with its log.
            BadRequest: the directory is in use by another system.
        """
        logs = self.directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.directory)
        deadline = time.monotonic() + self._start_timeout_s
        try:
            await self._start_nats(logs, deadline)
            await self._start_services(logs)
            await self._wait_until_ready(deadline)
        except BaseException:
            await self.stop(grace_s=_LEAST_GRACE_S)
            raise
        self._keepers = [asyncio.create_task(self._keep(child), name=child.name) for child in self.processes]

    async def stop(self, grace_s: float = 10.0) -> None:
        """Let the services finish what they hold, in order, then end what is left. Stopping twice is fine."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        deadline = time.monotonic() + grace_s
        try:
            for role in ("gateway", "compiler", "executor"):
                await _end([child for child in self._services if child.name.startswith(role)], deadline)
            await self._leave_bus()
            await _end([self._nats] if self._nats is not None else [], deadline)
        finally:
            for child in self.processes:
                child.kill()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def kill(self) -> None:
        """End every child at once."""
        for child in self.processes:
            child.kill()

    async def _start_nats(self, logs: Path, deadline: float) -> None:
        environ = self._environ()
        anonymous = not (environ.get("KECK_TOKEN") or environ.get("KECK_TOKENS_FILE"))
        self._nats = NatsServerProcess(
            self.directory,
            port=self._nats_port,
            passwords=self._passwords,
            anonymous=anonymous,
            environ=environ,
            log=logs / "nats.log",
        )
        await self._nats.start()
        while not self._nats.is_listening():
            await self._look(deadline, waiting_for="nats to listen")
        self.nats_url = self._nats.url
        self._tell_clients(self.directory / "nats" / "clients.env", anonymous=anonymous)
        self._bus = await Bus.connect(
            self.nats_url, name="keck-embedded", user="gateway", password=self._passwords["gateway"]
        )
        await provision(self._bus, storage="embedded")
        self._fleet = Fleet(self._bus)
        await self._fleet.start()

    def _tell_clients(self, file: Path, *, anonymous: bool) -> None:
        """What a client needs to log in with, for whoever may read this user's files."""
        if anonymous:
            file.unlink(missing_ok=True)
            return
        known = self.client_settings(Settings())
        write_private(
            file,
            f"KECK_NATS_URL={known.nats_url}\nKECK_NATS_USER={known.nats_user}\n"
            f"KECK_NATS_PASSWORD={known.nats_password}\n",
        )

    async def _start_services(self, logs: Path) -> None:
        self._services = [self._service("gateway", "gateway", logs, KECK_HTTP_PORT=str(self._http_port))]
        for index in range(self._compilers):
            self._services.append(self._service(f"compiler-{index}", "compiler", logs))
        for device in self.devices:
            name = f"executor-{device.replace(':', '-')}"
            self._services.append(self._service(name, "executor", logs, KECK_DEVICE=device))
        for service in self._services:
            await service.start()

    def _service(self, name: str, role: str, logs: Path, **environ: str) -> ChildProcess:
        # -P: what lies in the current directory must not shadow a module.
        return ChildProcess(
            name,
            [sys.executable, "-P", "-m", f"keck_{role}"],
            environ=self._environ()
            | {"KECK_WORKER": name, "KECK_NATS_USER": role, "KECK_NATS_PASSWORD": self._passwords[role]}
            | environ,
            log=logs / f"{name}.log",
        )

    def _environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        beside = str(Path(sys.executable).parent)
        return {
            **inherited,
            # ninja and friends come with the wheels, also where the environment is not activated.
            "PATH": os.pathsep.join(filter(None, (beside, inherited.get("PATH", "")))),
            "KECK_STATE_DIR": str(self.directory),
            **self._settings_env,
            "KECK_STORAGE": "embedded",
            "KECK_NATS_URL": self.nats_url,
        }

    async def _wait_until_ready(self, deadline: float) -> None:
        for service in self._services:
            while worker_of(service, self.fleet) is None:
                await self._look(deadline, waiting_for=f"{service.name} to report")
        gateway = self._services[0]
        self.http_url = url_of(gateway, self.fleet)
        # A port that was chosen for it stays, so that whoever was told the URL finds the next gateway there.
        gateway.environ["KECK_HTTP_PORT"] = self.http_url.rpartition(":")[2]
        while not await gateway_answers(self.http_url):
            await self._look(deadline, waiting_for=f"the gateway to answer at {self.http_url}")

    async def _look(self, deadline: float, *, waiting_for: str) -> None:
        """Wait a moment, unless a child died or time is up.

        Raises:
            Unavailable: it did, or it is.
        """
        for child in self.processes:
            if child.exit_code is not None:
                raise Unavailable(_died(child))
        if time.monotonic() > deadline:
            logs = "".join(f"\n--- {child.log}\n{child.log_tail(5)}" for child in self.processes)
            raise Unavailable(f"waited {self._start_timeout_s:.0f} s for {waiting_for}{logs}")
        await asyncio.sleep(_POLL_S)

    async def _keep(self, child: ChildProcess) -> None:
        """Start it again whenever it dies, later each time unless it had been well for a while."""
        pause_s = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            code = await child.ended()
            child.kill()
            if time.monotonic() - began > _HEALTHY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            self._report(f"{child.name} {_ending(code)}; starting it again in {pause_s:g} s ({child.log})")
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            await child.start()

    async def _leave_bus(self) -> None:
        if self._fleet is not None:
            await self._fleet.stop()
        if self._bus is not None:
            await self._bus.close()
        self._fleet = self._bus = None


async def _end(children: Sequence[ChildProcess], deadline: float) -> None:
    """SIGTERM, wait, then SIGKILL for the whole group of each that is still there."""
    running = [child for child in children if child.is_running]
    for child in running:
        child.terminate()
    if running:
        grace_s = max(_LEAST_GRACE_S, deadline - time.monotonic())
        await asyncio.wait([asyncio.ensure_future(child.ended()) for child in running], timeout=grace_s)
    for child in children:
        child.kill()
    for child in running:
        await asyncio.wait_for(child.ended(), _KILL_WAIT_S)


def _locked(directory: Path) -> IO[str]:
    """Hold the directory for this system.

    Raises:
        BadRequest: another one holds it.
    """
    lock = (directory / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise BadRequest(
            f"{directory} is in use by another system (process {holder}): stop it, or name another directory"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _died(child: ChildProcess) -> str:
    tail = child.log_tail() or "(empty)"
    return f"{child.name} {_ending(child.exit_code or 0)} while starting; its log, {child.log}, ends:\n{tail}"


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
