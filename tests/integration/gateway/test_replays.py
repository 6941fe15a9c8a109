"""Doing stored checks again: as new generations, none twice, and behind whatever is live."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from keck import Client, SyncClient, subjects
from keck.bus import Bus
from keck.errors import BadRequest
from keck.messages import (
    CheckRequested,
    CompileDone,
    EvalDone,
    Provenance,
    RanOperation,
    Replay,
    ReplayProgress,
    decode,
)
from keck.policy import rescored
from keck.streams import ensure_target
from keck.subjects import CheckKey
from keck.testing import sample_compile_done, sample_eval_done, sample_request
from keck.verdict import Verdict

_DELEGATES = Provenance(
    device="cpu", state="traced", operations=[RanOperation(name="aten::mm", count=1, total_us=9.0)]
)


@pytest.fixture(autouse=True)
async def history(bus: Bus) -> None:
    """HISTORY begins to copy a moment after it was made: what is queued and consumed before is not in it."""
    for queue in (subjects.CHECKS, subjects.BUILDS):
        copying = False
        while not copying:
            names = (await bus.api(f"CONSUMER.NAMES.{queue}", {}))["consumers"] or []
            copying = any(name.startswith("JS_SRC") for name in names)


async def _stored_verdict(bus: Bus, run: str, check_id: str, generation: int) -> EvalDone | None:
    found = await bus.last_by_subject(subjects.EVALS, subjects.eval_done(CheckKey(run, check_id, generation)))
    return decode(found[1], EvalDone) if found else None


async def _judged(bus: Bus, run: str, count: int, **changes: Any) -> list[EvalDone]:
    """Verdicts of so many checks, stored; each second one delegated to torch."""
    made = [
        sample_eval_done(
            sample_request(run=run, check_id=f"c{number}"),
            provenance=_DELEGATES if number % 2 else None,
            **changes,
        )
        for number in range(count)
    ]
    assert await bus.publish_terminals(made) == [True] * count
    return made


@pytest.fixture(params=["http", "nats"])
async def client(request: pytest.FixtureRequest, gateway: Any, nats_server: Any) -> AsyncIterator[Client]:
    async with Client(gateway.url if request.param == "http" else nats_server.url) as connected:
        yield connected


async def _run(client: Client, **order: Any) -> ReplayProgress:
    told = [progress async for progress in client.replay(Replay(**order))]
    assert all(not progress.finished and not progress.error for progress in told[:-1])
    assert told[-1].finished, told[-1].error
    return told[-1]


async def test_stored_verdicts_are_scored_again_as_a_generation_of_their_own(client: Client, bus: Bus):
    old = await _judged(bus, "train", 6)
    await _judged(bus, "other", 2)
    done = await _run(client, source="eval.done", run="train", options={"policy": "custom-only"})
    assert (done.generation, done.read, done.made, done.known, done.unreadable) == (1, 6, 6, 0, 0)
    assert done.changed == {"passed > hack_detected": 3}
    for verdict in old:
        assert await _stored_verdict(bus, "train", verdict.check_id, 0) == verdict
        again = await _stored_verdict(bus, "train", verdict.check_id, 1)
        expected = msgspec.structs.replace(rescored(verdict, "custom-only"), generation=1, rescored_from=0)
        assert again == expected
    assert await _stored_verdict(bus, "other", "c0", 1) is None


async def test_a_replay_that_is_given_again_makes_nothing_twice(client: Client, bus: Bus):
    await _judged(bus, "train", 5)
    order: dict[str, Any] = {"source": "eval.done", "run": "train", "options": {"policy": "custom-only"}}
    first = await _run(client, **order, limit=2)
    assert (first.made, first.last_sequence) == (2, 0)
    rest = await _run(client, **order, to_generation=first.generation)
    assert (rest.generation, rest.made, rest.known) == (1, 3, 2)
    another = await _run(client, **order)
    assert (another.generation, another.made) == (2, 5)


async def test_what_is_selected_is_taken_and_nothing_else(client: Client, bus: Bus):
    made = await _judged(bus, "train", 4)
    wrong = sample_eval_done(sample_request(run="train", check_id="wrong"), verdict=Verdict.WRONG_RESULT)
    await bus.publish_terminals([wrong])
    sequences = {
        verdict.check_id: (await bus.last_by_subject(subjects.EVALS, subjects.eval_done(_key(verdict))))[0]  # type: ignore[index]
        for verdict in [*made, wrong]
    }
    options = {"policy": "custom-only"}
    for generation, (selection, taken) in enumerate(
        (
            ({"check_ids": ["c1", "c3", "unknown"]}, {"c1", "c3"}),
            ({"verdicts": [Verdict.WRONG_RESULT]}, {"wrong"}),
            ({"first_sequence": sequences["c3"]}, {"c3", "wrong"}),
            ({"last_sequence": sequences["c1"]}, {"c0", "c1"}),
            ({"since": time.time() - 60}, {"c0", "c1", "c2", "c3", "wrong"}),
            ({"since": time.time() + 60}, set()),
            ({"until": time.time() - 60}, set()),
            ({"until": time.time() + 60, "limit": 1}, {"c0"}),
        ),
        start=1,
    ):
        order = {"source": "eval.done", "run": "train", "options": options, "to_generation": generation}
        await _run(client, **order, **selection)
        found = {name for name in sequences if await _stored_verdict(bus, "train", name, generation)}
        assert found == taken, selection


async def test_requests_are_done_again_with_other_options(client: Client, bus: Bus, worker: Any):
    for name in ("a", "b"):
        await client.check("class ModelNew: ...", "class Model: ...", run="train", check_id=name)
    await _until_copied(bus, 2)
    done = await _run(client, source="check.requested", run="train", options={"timed_calls": 7})
    assert (done.generation, done.made) == (1, 2)
    for name in ("a", "b"):
        again = await client.result(CheckKey("train", name, 1), timeout_s=10)
        assert (again.verdict, again.options.timed_calls) == (Verdict.PASSED, 7)
        assert (await client.result(CheckKey("train", name, 0), timeout_s=10)).options.timed_calls == 100
    assert [(item.check_id, item.generation, item.lane) for item in worker.seen[2:]] == [
        ("a", 1, "bulk"),
        ("b", 1, "bulk"),
    ]


async def test_the_same_content_is_still_the_same_check_after_it_was_done_again_otherwise(
    gateway: Any, bus: Bus, worker: Any
):
    await gateway.post("/v1/checks?wait=10", check_id="mine")
    await _until_copied(bus, 1)
    async with Client(gateway.url) as client:
        await _run(client, source="check.requested", options={"timed_calls": 7})
        await client.result(CheckKey("default", "mine", 1), timeout_s=10)
    assert (await gateway.post(check_id="mine")).status_code == 202


async def test_builds_are_judged_again_by_the_verdict_they_had(client: Client, bus: Bus):
    await ensure_target(bus, "cpu")
    pulled = await bus.js.pull_subscribe_bind(subjects.execute_consumer("cpu", "bulk"), subjects.BUILDS)
    for name, verdict in (("good", Verdict.PASSED), ("bad", Verdict.WRONG_RESULT), ("open", None)):
        build = sample_compile_done(sample_request(run="train", check_id=name))
        subject = subjects.compile_done("cpu", "bulk", "train", name)
        await bus.publish(subject, build, msg_id=subjects.build_id(_key(build)))
        if verdict is not None:
            await bus.publish_terminal(sample_eval_done(build, verdict=verdict))
    for message in await pulled.fetch(3, timeout=5):
        await message.ack_sync()
    await _until_copied(bus, 3)
    options = {"tolerance": "keck", "atol": 0.5}
    order = {"source": "compile.done", "run": "train", "options": options}
    done = await _run(client, **order, verdicts=[Verdict.WRONG_RESULT])
    assert (done.read, done.made) == (3, 1)
    (message,) = await pulled.fetch(1, timeout=5)
    again = decode(message.data, CompileDone)
    assert (again.check_id, again.generation, again.target) == ("bad", 1, "cpu")
    assert (again.options.tolerance, again.options.atol, again.options.rtol) == ("keck", 0.5, None)
    assert again.deadline > time.time() + 3_000


async def test_a_replay_keeps_behind_what_waits_already(start_gateway: Any, bus: Bus):
    """Nobody pulls, so that whatever is queued stays."""
    gateway = await start_gateway()
    for number in range(40):
        await gateway.post(run="train", check_id=f"c{number}")
    await _until_copied(bus, 40)
    told: list[ReplayProgress] = []
    async with Client(gateway.url) as client:
        async for progress in client.replay(Replay(source="check.requested", run="train")):
            told.append(progress)
            break
    assert told[-1].made == 0
    assert (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"] == 40


async def test_a_rate_is_kept(client: Client, bus: Bus):
    await _judged(bus, "train", 5)
    began = time.monotonic()
    order = {"source": "eval.done", "run": "train", "options": {"policy": "custom-only"}}
    await _run(client, **order, rate=10)
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"source": "eval.done"}, "name a `policy`"),
        ({"source": "eval.done", "options": {"policy": "none"}}, "policy"),
        ({"source": "eval.done", "options": {"tolerance": "keck"}}, "cannot change tolerance"),
        ({"source": "compile.done", "options": {"arch": "9.0"}}, "cannot change arch"),
        ({"source": "check.requested", "options": {"colour": 1}}, "cannot change colour"),
        ({"source": "check.requested", "generation": 2, "to_generation": 2}, "must be above"),
    ],
    ids=str,
)
async def test_an_order_that_can_never_work_is_refused(client: Client, order: dict[str, Any], said: str):
    with pytest.raises(BadRequest, match=said):
        await _run(client, **order)


async def test_an_unknown_field_and_a_wrong_value_are_named(gateway: Any):
    for body, named in (
        ({"source": "eval.done", "colour": 1}, "colour"),
        ({"source": "eval"}, "source"),
        ({"source": "eval.done", "run": "a.b"}, "run"),
    ):
        response = await gateway.http.post("/v1/replays", json=body)
        assert response.status_code == 400
        assert named in json.loads(response.text)["detail"]


async def test_what_cannot_be_read_is_counted_and_left_out(client: Client, bus: Bus):
    await _judged(bus, "train", 2)
    await bus.store("eval.done.train.garbage.0", b"\x80")
    done = await _run(client, source="eval.done", run="train", options={"policy": "custom-only"})
    assert (done.read, done.made, done.unreadable) == (3, 2, 1)


def _key(event: CheckRequested | CompileDone | EvalDone) -> CheckKey:
    return CheckKey(event.run, event.check_id, event.generation)


async def _until_copied(bus: Bus, count: int) -> None:
    """HISTORY has so many messages; it copies what the queues hold a moment later."""
    state: dict[str, int] = {}

    async def look() -> None:
        state.update((await bus.api("STREAM.INFO.HISTORY", {}))["state"])

    await look()
    while state["messages"] < count:
        await look()


async def test_the_command_line_says_what_became_of_them(gateway: Any, bus: Bus):
    await _judged(bus, "train", 4)
    command = ["--from", "eval.done", "--run", "train", "--policy", "custom-only", "--url", gateway.url]
    code, out, _ = await _keck("replay", *command, "--json")
    assert code == 0
    assert json.loads(out)["changed"] == {"passed > hack_detected": 2}
    code, out, _ = await _keck("replay", *command, "--id", "c1", "--since", "2020-01-01")
    assert code == 0
    assert out.splitlines()[0].startswith("generation 2: 1 made, 0 there already, 1 events read")
    assert out.splitlines()[1].split() == ["1", "passed", ">", "hack_detected"]
    for wrong in (["--since", "yesterday"], ["--set", "policy"], ["--verdict", "good"], ["--run", "a.b"]):
        code, _, err = await _keck("replay", *command, *wrong)
        assert (code, "keck: " in err) == (2, True), err


async def _keck(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "keck.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_blocking_client_waits_for_the_end(gateway: Any, bus: Bus):
    await _judged(bus, "train", 3)

    def run() -> ReplayProgress:
        with SyncClient(gateway.url) as client:
            return client.replay(Replay(source="eval.done", options={"policy": "custom-only"}))

    done = await asyncio.to_thread(run)
    assert (done.finished, done.made) == (True, 3)
