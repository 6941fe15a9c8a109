"""Ending checks that nobody wants any more, wherever they are."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keck import Client, SyncClient, subjects
from keck.bus import Bus
from keck.errors import BadRequest, NotFound, Unavailable
from keck.messages import CheckCancel, EvalDone, encode
from keck.subjects import CheckKey
from keck.testing import async_wait_until, sample_compile_done, sample_eval_done, sample_request
from keck.verdict import Verdict


@pytest.fixture
async def lonely(start_gateway: Any) -> Any:
    """A gateway on a bus without workers."""
    return await start_gateway()


@pytest.fixture(params=["http", "nats"])
async def client(request: pytest.FixtureRequest, lonely: Any, nats_server: Any) -> AsyncIterator[Client]:
    async with Client(lonely.url if request.param == "http" else nats_server.url) as connected:
        yield connected


async def _messages(bus: Bus, stream: str) -> int:
    count: int = (await bus.api(f"STREAM.INFO.{stream}", {}))["state"]["messages"]
    return count


async def test_a_check_that_waits_is_never_begun(client: Client, bus: Bus, make_worker: Any):
    keys = [await client.submit("class ModelNew: ...", "class Model: ...", check_id=name) for name in "ab"]
    done = await client.cancel(keys[0], reason="the step\nis over")
    assert (done.verdict, done.message, done.stage) == (
        Verdict.CANCELLED,
        "cancelled: the step is over",
        "format",
    )
    assert done.mask_sample
    assert await client.result(keys[0], timeout_s=5) == done
    assert await _messages(bus, subjects.CHECKS) == 1
    worker = await make_worker()
    assert (await client.result(keys[1], timeout_s=10)).verdict is Verdict.PASSED
    assert [request.check_id for request in worker.seen] == ["b"]


async def test_a_build_that_waits_is_taken_out_of_its_queue(client: Client, bus: Bus):
    build = sample_compile_done(sample_request(check_id="built"))
    await bus.publish(subjects.compile_done("sm90", "bulk", "default", "built"), build, msg_id="built")
    done = await client.cancel(CheckKey("default", "built", 0))
    assert (done.verdict, done.stage) == (Verdict.CANCELLED, "compile")
    assert await _messages(bus, subjects.BUILDS) == 0


async def test_a_check_in_hand_is_ended_by_its_worker(client: Client, make_worker: Any):
    worker = await make_worker()
    key = await client.submit("#!hold", "class Model: ...", check_id="held")
    await async_wait_until(lambda: worker.seen)
    done = await client.cancel(key)
    assert done.verdict is Verdict.CANCELLED
    await async_wait_until(lambda: worker.busy == 0)
    assert not worker.released.is_set()


async def test_a_verdict_that_is_there_stays(client: Client, bus: Bus):
    stored = sample_eval_done(sample_request(check_id="judged"))
    await bus.publish_terminal(stored)
    assert await client.cancel(CheckKey("default", "judged", 0)) == stored


async def test_only_the_generation_that_is_named_is_cancelled(client: Client, bus: Bus):
    for generation in (0, 1):
        request = sample_request(check_id="twice", generation=generation)
        subject = subjects.check_requested("bulk", "default", "twice")
        await bus.publish(subject, request, msg_id=f"{generation}")
    assert (await client.cancel(CheckKey("default", "twice", 1))).generation == 1
    assert not await bus.is_decided(CheckKey("default", "twice", 0))
    assert await _messages(bus, subjects.CHECKS) == 1


async def test_a_check_that_nobody_knows_is_not_found(client: Client):
    with pytest.raises(NotFound, match="no check nothing"):
        await client.cancel(CheckKey("default", "nothing", 0))
    with pytest.raises(BadRequest):
        await client.cancel(CheckKey("default", "a.b", 0))


async def test_whoever_waits_is_answered(lonely: Any, bus: Bus, make_worker: Any):
    worker = await make_worker()
    await lonely.sees(executors=1)
    waiting = asyncio.create_task(lonely.post("/v1/checks?wait=30", candidate="#!hold", check_id="w"))
    await async_wait_until(lambda: worker.seen)
    cancelled = await lonely.http.delete("/v1/checks/w")
    assert cancelled.status_code == 200
    assert (await waiting).json() == cancelled.json()
    assert cancelled.json()["verdict"] == "cancelled"


async def test_the_original_routes_answer_409(lonely: Any, make_worker: Any):
    worker = await make_worker()
    await lonely.sees(executors=1)
    form = {"cuda_code": "#!hold", "torch_code": "class Model: ..."}
    waiting = asyncio.create_task(lonely.http.post("/compute_score", data=form))
    await async_wait_until(lambda: worker.seen)
    await lonely.http.delete(f"/v1/checks/{worker.seen[0].check_id}")
    answer = await waiting
    assert (answer.status_code, answer.json()["msg"][:14]) == (409, "failed: infras")


async def test_a_worker_ends_what_it_holds_also_where_there_is_no_gateway(
    nats_server: Any, bus: Bus, make_worker: Any
):
    worker = await make_worker()
    async with Client(nats_server.url) as client:
        held = await client.submit("#!hold", "class Model: ...", check_id="held")
        await async_wait_until(lambda: worker.seen)
        assert (await client.cancel(held)).verdict is Verdict.CANCELLED


async def test_without_anybody_to_hear_it_the_caller_is_told(
    nats_server: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("keck._transport._nats._CANCELLED_WITHIN_S", 0.2)
    async with Client(nats_server.url) as client:
        key = await client.submit("class ModelNew: ...", "class Model: ...")
        with pytest.raises(Unavailable, match="nobody ended"):
            await client.cancel(key)


async def test_a_message_alone_cancels_too(lonely: Any, bus: Bus):
    """As an orchestrator without our client does it: nothing asked back."""
    request = sample_request(check_id="plain")
    await bus.publish(subjects.check_requested("bulk", "default", "plain"), request, msg_id="plain")
    await bus.nc.publish(subjects.cancel("default", "plain"), encode(CheckCancel(check_id="plain")))
    link = "/v1/checks/plain"
    event = await lonely.until(link, lambda answer: answer["type"] == "eval.done")
    assert event["verdict"] == "cancelled"


async def test_an_order_on_another_checks_subject_cancels_nothing(lonely: Any, bus: Bus):
    for name in ("named", "addressed"):
        request = sample_request(check_id=name)
        await bus.publish(subjects.check_requested("bulk", "default", name), request, msg_id=name)
    order = encode(CheckCancel(check_id="named"))
    answer = await bus.nc.request(subjects.cancel("default", "addressed"), order, timeout=5)
    assert b"another's" in answer.data
    assert await _messages(bus, subjects.CHECKS) == 2


async def test_the_command_line_and_the_blocking_client_cancel(lonely: Any):
    for name in ("one", "two", "three"):
        await lonely.post(check_id=name, run="train")
    arguments = ["cancel", "one", "nothing", "two", "--run", "train", "--url", lonely.url, "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "keck.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 2
    assert b"no check nothing in run train" in err
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [(event["check_id"], event["verdict"]) for event in verdicts] == [
        ("one", "cancelled"),
        ("two", "cancelled"),
    ]

    def cancel() -> EvalDone:
        with SyncClient(lonely.url) as client:
            return client.cancel(CheckKey("train", "three", 0), reason="enough")

    assert (await asyncio.to_thread(cancel)).message == "cancelled: enough"
