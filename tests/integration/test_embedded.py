"""Starting, watching and stopping a system of processes; the services are stand-ins, the processes are real."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from keck import BadRequest, CheckKey, NotPermitted, Unavailable
from keck.bus import Bus, connect
from keck.embedded import Embedded
from keck.settings import Settings, load
from keck.testing import async_wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

STAND_INS = {"PYTHONPATH": str(Path(__file__).parent / "stand_ins")}


def _alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedded]:
    """Shared by the tests here, some of which kill parts of it."""
    directory = tmp_path_factory.mktemp("system")
    async with Embedded(directory=directory, devices=("cpu", "cuda:3"), settings_env=STAND_INS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def system(shared_system: Embedded) -> Embedded:
    """The system with all its workers back."""
    pids = {child.pid for child in shared_system.processes if child.name != "nats"}
    assert await shared_system.fleet.wait_for(lambda fleet: pids == {w.pid for w in fleet.live()}, 20)
    return shared_system


async def test_everything_asked_for_is_there_and_answers(system: Embedded) -> None:
    workers = {worker.worker: worker for worker in system.fleet.live()}
    assert sorted(workers) == ["compiler-0", "executor-cpu", "executor-cuda-3", "gateway"]
    assert workers["executor-cuda-3"].target == "cuda:3"
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{system.http_url}/healthz")).is_success
    assert {child.name for child in system.processes} == {"nats", *workers}


async def test_stopping_leaves_no_process_and_frees_the_directory(tmp_path: Path) -> None:
    for _ in range(2):
        system = Embedded(directory=tmp_path, devices=(), settings_env=STAND_INS)
        await system.start()
        pids = [child.pid for child in system.processes]
        await system.stop()
        await system.stop()
        assert not any(map(_alive, pids))
        assert [child.exit_code for child in system.processes if child.name != "nats"] == [0, 0]


@pytest.mark.parametrize("name", ["gateway", "executor-cpu", "nats"])
async def test_a_process_that_dies_is_started_again(system: Embedded, name: str) -> None:
    child = next(child for child in system.processes if child.name == name)
    before = child.pid
    os.kill(before, signal.SIGKILL)
    await async_wait_until(lambda: child.pid != before and child.is_running, timeout_s=10)
    for url in (system.nats_url, system.http_url):
        await async_wait_until(functools.partial(_connects, url), timeout_s=10)


def _connects(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


async def test_a_service_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    system = Embedded(
        directory=tmp_path, devices=("cpu",), settings_env=STAND_INS | {"STAND_IN_FAILS": "executor"}
    )
    with pytest.raises(Unavailable, match=r"executor-cpu ended with exit code 1 .*\n.*told to fail"):
        await system.start()
    assert not any(_alive(child.pid) for child in system.processes)


async def test_a_start_that_takes_too_long_says_what_it_waited_for(tmp_path: Path) -> None:
    system = Embedded(directory=tmp_path, settings_env=STAND_INS, start_timeout_s=0.0)
    with pytest.raises(Unavailable, match="waited 0 s for nats to listen"):
        await system.start()


async def test_a_directory_serves_one_system_at_a_time(system: Embedded) -> None:
    with pytest.raises(BadRequest, match=f"in use by another system .process {os.getpid()}"):
        await Embedded(directory=system.directory, settings_env=STAND_INS).start()


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    system = Embedded(directory=tmp_path, devices=("cpu",), settings_env=STAND_INS)
    starting = asyncio.create_task(system.start())
    await async_wait_until(lambda: len(system.processes) == 4, timeout_s=10)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not any(_alive(child.pid) for child in system.processes)


async def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from keck.embedded import Embedded\n"
        "async def main():\n"
        "    async with Embedded(directory=Path(sys.argv[1]), devices=('cpu',)) as system:\n"
        "        print(*(child.pid for child in system.processes), flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not awaited
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | STAND_INS,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in (await asyncio.to_thread(parent.stdout.readline)).split()]
        assert len(pids) == 4
        assert all(map(_alive, pids))
        parent.kill()
    await async_wait_until(lambda: not any(map(_alive, pids)), timeout_s=5)


async def test_each_service_logs_in_to_the_bus_as_its_own_role(system: Embedded) -> None:
    logins = {}
    for child in system.processes:
        if child.name != "nats":
            logins[child.name] = (child.environ["KECK_NATS_USER"], child.environ["KECK_NATS_PASSWORD"])
    assert {name: user for name, (user, _) in logins.items()} == {
        "gateway": "gateway",
        "compiler-0": "compiler",
        "executor-cpu": "executor",
        "executor-cuda-3": "executor",
    }
    assert len({password for _, password in logins.values()}) == 3
    config = (system.directory / "nats" / "nats-server.conf").read_text()
    assert not [password for _, password in logins.values() if password in config]


async def test_whoever_names_no_user_is_an_orchestrator_and_no_more(system: Embedded) -> None:
    async with await Bus.connect(system.nats_url, name="anybody") as bus:
        assert not await bus.is_decided(CheckKey("run", "check", 0))
        with pytest.raises(NotPermitted):
            await bus.store("eval.done.run.check.0", b"forged")
    assert not (system.directory / "nats" / "clients.env").exists()


async def test_with_a_token_on_the_gateway_the_bus_wants_credentials_too(tmp_path: Path) -> None:
    environ = STAND_INS | {"KECK_TOKEN": "a-token-for-everybody"}
    async with Embedded(directory=tmp_path, devices=(), settings_env=environ) as system:
        with pytest.raises(Unavailable):
            await Bus.connect(system.nats_url, name="anybody")
        file = tmp_path / "nats" / "clients.env"
        assert file.stat().st_mode & 0o777 == 0o600
        from_file = load(dict(line.split("=", 1) for line in file.read_text().splitlines()))
        for settings in (from_file, system.client_settings(Settings())):
            async with await connect(settings, name="client") as bus:
                assert not await bus.is_decided(CheckKey("run", "check", 0))
