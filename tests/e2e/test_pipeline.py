"""The three services together, while things go wrong: kills, crashes, drains, many callers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from keck import CheckKey, CheckProgress, Client, EvalDone
from keck.embedded import Embedded
from keck.messages import Options, new_request, to_json
from keck.subjects import EVALS, build_id, check_key, compile_done
from keck.testing import async_wait_until, sample_compile_done

EXAMPLES = Path(__file__).parents[2] / "examples"
WITHIN_S = 300.0
QUICK = {"device": "cpu", "correctness_sets": 2, "timed_calls": 5}

REFERENCE = """\
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def get_inputs():
    return [torch.randn(64, 64)]


def get_init_inputs():
    return []
"""
RIGHT = REFERENCE.replace("class Model(", "class ModelNew(")
SLOW = RIGHT.replace("import torch\n", "import time\n\nimport torch\n", 1).replace(
    "        return", "        time.sleep(0.5)\n        return"
)
CRASHING = RIGHT.replace("import torch\n", "import ctypes\n\nimport torch\n", 1).replace(
    "        return", "        ctypes.string_at(0)\n        return"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 60), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedded]:
    """One compiler, one CPU executor, shared by the tests here: each leaves it as it found it."""
    directory = tmp_path_factory.mktemp("pipeline")
    async with Embedded(
        directory=directory, devices=("cpu",), settings_env={"COMPILER_CPUS": "1"}
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(system: Embedded) -> AsyncIterator[Client]:
    """A client of the system, which is complete again."""
    await async_wait_until(
        lambda: len(system.fleet.live("compiler")) == len(system.fleet.executors()) == 1, 60
    )
    async with Client(system.nats_url) as connected:
        yield connected


async def test_a_check_whose_executor_is_killed_ends_in_exactly_one_verdict(
    system: Embedded, client: Client
) -> None:
    done, killed = await _judge_and_signal(
        client, system, candidate=SLOW, at_stage="correctness", role="executor", number=signal.SIGKILL
    )
    assert killed
    assert done.verdict == "passed", to_json(done).decode()
    assert done.attempts == 2
    assert await _verdicts_stored(system, done) == 1


async def test_a_check_whose_compiler_is_killed_ends_in_exactly_one_verdict(
    system: Embedded, client: Client
) -> None:
    # A name of its own: no other test may have built it before.
    source = (EXAMPLES / "cpp_relu" / "candidate.py").read_text()
    candidate = source.replace('"relu_extension"', '"relu_of_the_killed_compiler"')
    done, killed = await _judge_and_signal(
        client, system, candidate=candidate, at_stage="compile", role="compiler", number=signal.SIGKILL
    )
    assert killed
    assert done.verdict == "passed", to_json(done).decode()
    assert await _verdicts_stored(system, done) == 1


async def test_an_executor_asked_to_stop_finishes_the_check_it_holds(
    system: Embedded, client: Client
) -> None:
    done, asked = await _judge_and_signal(
        client, system, candidate=SLOW, at_stage="correctness", role="executor", number=signal.SIGTERM
    )
    assert asked
    assert done.verdict == "passed", to_json(done).decode()
    assert done.attempts == 1
    assert await _verdicts_stored(system, done) == 1


async def test_a_crash_costs_the_next_check_nothing(system: Embedded, client: Client) -> None:
    before = _pid_of(system, "executor")
    crashed = await client.check(CRASHING, REFERENCE, options=QUICK, timeout_s=WITHIN_S)
    assert crashed.verdict == "crashed", to_json(crashed).decode()
    right = await client.check(RIGHT, REFERENCE, options=QUICK, timeout_s=WITHIN_S)
    assert right.verdict == "passed", to_json(right).decode()
    assert _pid_of(system, "executor") == before


async def test_a_child_in_a_session_of_its_own_ends_with_its_check(system: Embedded, client: Client) -> None:
    # A duration nobody else sleeps for, to find it by.
    start = "subprocess.Popen(['sleep', '86399.25'], start_new_session=True)"
    leaving = f"import subprocess\n\n{start}\n\n{RIGHT}"
    done = await client.check(leaving, REFERENCE, options=QUICK, timeout_s=WITHIN_S)
    assert done.verdict == "passed", to_json(done).decode()
    await async_wait_until(lambda: not _running("86399.25"), 30)


async def test_a_check_cancelled_while_it_is_judged_leaves_no_process(
    system: Embedded, client: Client
) -> None:
    start = "subprocess.Popen(['sleep', '86399.75'], start_new_session=True)"
    candidate = f"import subprocess\n\n{start}\n\n{SLOW}"
    done = await _cancelled_at(client, "correctness", candidate, running="86399.75")
    assert (done.verdict, done.stage, done.message) == ("cancelled", "compile", "cancelled: not wanted")
    await async_wait_until(lambda: not _running("86399.75"), 30)
    before = _pid_of(system, "executor")
    right = await client.check(RIGHT, REFERENCE, options=QUICK, timeout_s=WITHIN_S)
    assert right.verdict == "passed", to_json(right).decode()
    assert _pid_of(system, "executor") == before


async def test_a_check_cancelled_while_it_is_built_leaves_no_compiler(
    system: Embedded, client: Client
) -> None:
    source = (EXAMPLES / "cpp_relu" / "candidate.py").read_text()
    name = "relu_that_nobody_waits_for"
    candidate, argument = source.replace('"relu_extension"', f'"{name}"'), f"-DTORCH_EXTENSION_NAME={name}"
    done = await _cancelled_at(client, "compile", candidate, running=argument)
    assert (done.verdict, done.stage) == ("cancelled", "format")
    await async_wait_until(lambda: not _running(argument), 30)
    assert await _verdicts_stored(system, done) == 1


async def test_a_check_that_is_judged_ends_at_its_deadline(system: Embedded, client: Client) -> None:
    # Warm by now: it reaches the executor within a second, and would take twenty there.
    lasting = SLOW.replace("time.sleep(0.5)", "time.sleep(20)")
    done = await client.check(lasting, REFERENCE, options=QUICK, deadline_s=10, timeout_s=WITHIN_S)
    assert (done.verdict, done.failure_kind) == ("deadline_exceeded", "deadline"), to_json(done).decode()
    assert 10 <= done.durations_s.total < 20
    assert await _verdicts_stored(system, done) == 1


@pytest.mark.parametrize(("rebuilds", "verdict"), [(0, "passed"), (1, "infra_error")])
async def test_a_check_whose_build_is_lost_is_built_once_more(
    system: Embedded, client: Client, rebuilds: int, verdict: str
) -> None:
    options = Options(device="cpu", correctness_sets=2, timed_calls=5)
    request = new_request(RIGHT, REFERENCE, run=f"lost-{rebuilds}", options=options)
    build = sample_compile_done(request, rebuilds=rebuilds)  # its extension is in no store
    key = CheckKey(request.run, request.check_id, 0)
    subject = compile_done("cpu", "bulk", request.run, request.check_id)
    await system.bus.publish(subject, build, msg_id=build_id(key, rebuilds=rebuilds))
    done = await client.result(key, timeout_s=WITHIN_S)
    assert done.verdict == verdict, to_json(done).decode()
    assert done.failure_kind == ("" if verdict == "passed" else "artifact_missing")
    assert await _verdicts_stored(system, done) == 1


# Named, to be found by the test.
VICTIM = SLOW.replace(
    "import time\n", 'import ctypes\nimport time\n\nctypes.CDLL(None).prctl(15, b"keck-victim", 0, 0, 0)\n', 1
)


@pytest.mark.parametrize(("kills", "verdict"), [(1, "passed"), (2, "crashed")])
async def test_a_runner_that_something_killed_is_no_fault_of_the_candidates_unless_it_happens_again(
    system: Embedded, client: Client, kills: int, verdict: str
) -> None:
    killing = asyncio.create_task(_kill_victims(kills))
    done = await client.check(VICTIM, REFERENCE, options=QUICK, timeout_s=WITHIN_S)
    await killing
    assert done.verdict == verdict, to_json(done).decode()
    assert done.attempts == 1
    if verdict == "crashed":
        assert "killed by SIGKILL" in done.message


async def _kill_victims(count: int) -> None:
    """Kill so many processes that call themselves victims, one after the other."""
    killed: set[int] = set()
    async with asyncio.timeout(WITHIN_S):
        while len(killed) < count:
            for pid in set(_named("keck-victim")) - killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)


def _named(name: str) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if file.read_text().strip() == name:
                found.append(int(file.parent.name))
    return found


async def test_twenty_callers_of_the_original_route_each_get_their_own_answer(system: Embedded) -> None:
    wrong = RIGHT.replace("torch.relu(x)", "torch.zeros_like(x)")
    async with httpx.AsyncClient(base_url=system.http_url, timeout=WITHIN_S) as http:

        async def ask(candidate: str) -> httpx.Response:
            return await http.post("/compute_score", data={"cuda_code": candidate, "torch_code": REFERENCE})

        asked = [ask(RIGHT if index % 2 else f"{wrong}\n# {index}\n") for index in range(20)]
        answers = await asyncio.gather(*asked)
    for index, answer in enumerate(answers):
        body = answer.json()
        assert answer.status_code == 200, answer.text
        assert set(body) == {"formated", "compiled", "passed", "msg"}
        assert (body["formated"], body["compiled"], body["passed"]) == (True, True, index % 2 == 1), (
            answer.text
        )
        if body["passed"]:
            assert set(body["msg"]) == {"torch_profile", "torch_time", "cuda_time", "speedup"}
        else:
            assert body["msg"].startswith("failed: ")


async def test_the_same_id_twice_is_one_check(system: Embedded, client: Client) -> None:
    keys = [
        await client.submit(RIGHT, REFERENCE, run="twice", check_id="one", options=QUICK) for _ in range(2)
    ]
    assert keys[0] == keys[1]
    done = await client.result(keys[0], timeout_s=WITHIN_S)
    assert done.verdict == "passed", to_json(done).decode()
    assert await _verdicts_stored(system, done) == 1


async def test_the_orchestrator_example_reads_its_verdict_off_the_bare_bus(system: Embedded) -> None:
    pair = EXAMPLES / "cpp_relu"
    said = await _run(
        sys.executable,
        EXAMPLES / "orchestrator.py",
        system.nats_url,
        pair / "candidate.py",
        pair / "reference.py",
    )
    assert " passed " in said


@pytest.mark.parametrize("transport", ["nats", "http"])
async def test_the_sdk_example_prints_three_verdicts(system: Embedded, transport: str) -> None:
    url = system.nats_url if transport == "nats" else system.http_url
    said = await _run(sys.executable, EXAMPLES / "sdk_async.py", url)
    assert sorted(line.split(";")[0].split(",")[0] for line in said.splitlines()) == [
        "C++: passed",
        "itself: passed",
        "zeros: wrong_result",
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_curl_example_gets_the_original_answer_and_the_whole_verdict(system: Embedded) -> None:
    said = await _run("sh", EXAMPLES / "http_curl.sh", system.http_url)
    assert '"nats_connected":true' in said
    assert '"passed":true' in said
    assert '"verdict":"passed"' in said


async def _judge_and_signal(
    client: Client, system: Embedded, *, candidate: str, at_stage: str, role: str, number: signal.Signals
) -> tuple[EvalDone, bool]:
    """Check a candidate and, once it has reached a stage, send a signal to the service at work.

    Returns when the service is back, so that the next test finds the system as this one did.
    """
    told = 0
    async with asyncio.timeout(WITHIN_S):
        async for event in client.follow(candidate, REFERENCE, lane="bulk", options=QUICK):
            if isinstance(event, EvalDone):
                break
            assert isinstance(event, CheckProgress)
            if event.stage == at_stage and not told:
                told = _pid_of(system, role)
                os.kill(told, number)
    if told:
        await async_wait_until(lambda: _pid_of(system, role) != told, 60)
        await async_wait_until(
            lambda: any(beat.pid == _pid_of(system, role) for beat in system.fleet.live(role)), 120
        )
    assert isinstance(event, EvalDone)
    return event, bool(told)


async def _cancelled_at(client: Client, stage: str, candidate: str, *, running: str) -> EvalDone:
    """Check a candidate and cancel it once it has reached a stage and a process of it runs; the verdict."""
    cancelling: asyncio.Task[EvalDone] | None = None
    async with asyncio.timeout(WITHIN_S):
        async for event in client.follow(candidate, REFERENCE, lane="bulk", options=QUICK):
            if isinstance(event, EvalDone):
                break
            if event.stage == stage and cancelling is None:
                key = CheckKey(event.run, event.check_id, event.generation)
                await async_wait_until(lambda: _running(running), 60)
                cancelling = asyncio.create_task(client.cancel(key, reason="not wanted"))
    assert isinstance(event, EvalDone)
    assert cancelling is not None
    assert await cancelling == event
    return event


def _pid_of(system: Embedded, role: str) -> int:
    return next(process.pid for process in system.processes if process.name.startswith(role))


def _running(argument: str) -> list[str]:
    """Processes that were started with this argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if argument in file.read_text(errors="replace").split("\0"):
                found.append(file.parent.name)
    return found


async def _verdicts_stored(system: Embedded, done: EvalDone) -> int:
    """How many verdicts the stream holds for a check, all generations."""
    subject = f"eval.done.{done.run}.{done.check_id}.*"
    info = await system.bus.js.stream_info(EVALS, subjects_filter=subject)
    stored = info.state.subjects or {}
    assert {check_key(name) for name in stored} == {CheckKey(done.run, done.check_id, done.generation)}
    return sum(stored.values())


async def _run(*command: str | Path) -> str:
    """What a program prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return out.decode()
