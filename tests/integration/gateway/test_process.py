"""The gateway as a process: refusals at the start, its heartbeat, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from keck.fleet import Fleet

CHECK = {"candidate": "#!hold", "reference": "class Model: ..."}


def _run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keck_gateway"],
        env=_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    return kept | {"KECK_NATS_URL": "nats://127.0.0.1:1", "KECK_HTTP_PORT": "0"} | changes


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_beyond_loopback_without_a_token_is_refused_with_what_to_set(host):
    outcome = _run(KECK_HTTP_HOST=host)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert "KECK_TOKEN" in outcome.stderr
    assert "KECK_INSECURE" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_port_that_is_taken_is_refused_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = _run(KECK_HTTP_PORT=str(taken.getsockname()[1]))
    assert outcome.returncode == 2
    assert "KECK_HTTP_PORT" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
async def test_sigterm_answers_who_waits_takes_the_heartbeat_away_and_leaves_stdout_alone(
    nats_server, bus, worker
):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "keck_gateway",
        env=_environment(KECK_NATS_URL=nats_server.url, KECK_INSECURE="1", KECK_HTTP_HOST="0.0.0.0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    fleet = Fleet(bus)
    await fleet.start()
    assert await fleet.wait_for(lambda fleet: bool(fleet.live("gateway")), 30)
    [beat] = fleet.live("gateway")
    assert beat.pid == process.pid
    url = str(beat.facts["url"])
    assert url.startswith("http://127.0.0.1:")

    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        waiting = asyncio.create_task(http.post("/v1/checks?wait=60", json=CHECK))
        async with asyncio.timeout(10):
            while not worker.seen:
                if waiting.done() and waiting.result().status_code == 503:  # the fleet is not known yet
                    waiting = asyncio.create_task(http.post("/v1/checks?wait=60", json=CHECK))
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        answer = await waiting
    assert answer.status_code == 503
    assert "shutting down" in answer.json()["detail"]
    out, errors = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0, errors
    assert out == b""
    assert b"gateway_listening" in errors
    assert b"Traceback" not in errors
    assert await fleet.wait_for(lambda fleet: not fleet.live("gateway"), 5)
    await fleet.stop()


def test_the_gateway_imports_neither_torch_nor_numpy():
    code = "import sys, keck_gateway.__main__; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
