"""`keck watch` and `keck top` as a person runs them, and what they stand on; the judge is played."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from keck import CheckProgress, Client, EvalDone, Settings, SyncClient, Verdict
from keck.played import PlayedSystem
from keck.testing import sample_request

KECK = [sys.executable, "-m", "keck.cli"]
SAMPLE = sample_request()


def candidate(verdict: str) -> str:
    return f"# verdict: {verdict}\n{SAMPLE.candidate}"


@pytest.fixture(params=["http", "nats"])
def url(request: pytest.FixtureRequest, played: PlayedSystem) -> str:
    return str(getattr(played, f"{request.param}_url"))


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, settings=Settings()) as connected:
        yield connected


def environ(url: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KECK_")} | {
        "KECK_URL": url
    }


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KECK, *arguments], env=environ(url), capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_run_is_watched_and_no_other(client: Client, played: PlayedSystem, url: str) -> None:
    seen: list[CheckProgress | EvalDone] = []
    both = asyncio.Event()

    async def watch() -> None:
        async for event in client.watch("watched"):
            seen.append(event)
            if sum(isinstance(one, EvalDone) for one in seen) == 2:
                both.set()

    watching = asyncio.create_task(watch())
    while not both.is_set():  # a check from before the watching began is not told, so until two were
        await client.check(candidate("passed"), SAMPLE.reference, run="another", lane="bulk")
        await client.check(candidate("crashed"), SAMPLE.reference, run="watched", lane="bulk")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert {event.run for event in seen} == {"watched"}
    assert {event.verdict for event in seen if isinstance(event, EvalDone)} == {Verdict.CRASHED}
    assert any(isinstance(event, CheckProgress) for event in seen)


async def test_load_tells_of_workers_queues_and_verdicts(client: Client, played: PlayedSystem) -> None:
    before = await client.load()
    await client.check(candidate("passed"), SAMPLE.reference, lane="bulk")
    after = await client.load()
    assert "played-cpu" in [worker.worker for worker in after.workers]
    assert after.queues is not None
    # The played judge hears requests and takes none, so they wait on.
    waiting = {(queue.stage, queue.lane): queue.waiting for queue in after.queues}
    assert waiting["compile", "bulk"] >= 1
    assert after.verdicts == (before.verdicts or 0) + 1


def test_the_blocking_client_has_both(url: str) -> None:
    with SyncClient(url, settings=Settings()) as client:
        assert client.load().workers
        events = client.watch("nobody")
        assert iter(events) is events


def test_watching_checks_ends_with_the_worst_of_their_verdicts(url: str, played: PlayedSystem) -> None:
    with SyncClient(url, settings=Settings()) as client:
        ids = [
            client.check(candidate(verdict), SAMPLE.reference, lane="bulk").check_id
            for verdict in ("passed", "crashed")
        ]
        waiting = client.submit(candidate("nothing"), SAMPLE.reference).check_id
    right = run(url, "watch", ids[0])
    assert (right.returncode, "passed" in right.stdout) == (0, True)
    both = run(url, "watch", *ids, "--verdicts", "--json")
    assert both.returncode == 1, both.stderr
    assert {json.loads(line)["verdict"] for line in both.stdout.splitlines()} == {"passed", "crashed"}
    process = subprocess.Popen([*KECK, "watch", waiting], env=environ(url), stdout=subprocess.PIPE, text=True)
    played.wait_for_requests(3)
    request = next(one for one in played.requests if one.check_id == waiting)
    from keck.messages import verdict_of

    played.decide(verdict_of(request, Verdict.INFRA_ERROR, stage="load", message="a GPU is gone"))
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "a GPU is gone" in said


def test_a_check_that_is_not_known_is_said_over_http(played: PlayedSystem) -> None:
    done = run(played.http_url, "watch", "nowhere")
    assert done.returncode == 3
    assert "no check nowhere in run default" in done.stderr


def test_watching_a_run_ends_in_order(url: str) -> None:
    process = subprocess.Popen(
        [*KECK, "watch", "--run", "quiet"], env=environ(url), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "watching the run quiet" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said


def test_top_shows_who_works_and_what_waits(url: str) -> None:
    table = run(url, "top")
    assert table.returncode == 0, table.stderr
    assert "played-cpu" in table.stdout
    assert "compile" in table.stdout
    load = json.loads(run(url, "top", "--once", "--json").stdout)
    assert {"at", "workers", "queues", "verdicts"} == set(load)


def test_top_again_and_again_as_lines(url: str) -> None:
    process = subprocess.Popen(
        [*KECK, "top", "--json", "--every", "0.2"], env=environ(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    looks = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert looks[0]["at"] < looks[1]["at"] < looks[2]["at"]


def test_nobody_there_is_said(played: PlayedSystem) -> None:
    done = run("http://127.0.0.1:9", "top")
    assert done.returncode == 3
    assert "no gateway answers" in done.stderr
