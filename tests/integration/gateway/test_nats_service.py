"""Request-reply on ``keck.check``."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from keck import subjects
from keck.messages import EvalDone
from keck.testing import async_wait_until

BODY = {"candidate": "class ModelNew: ...", "reference": "class Model: ..."}


async def _ask(bus, body, codec=msgspec.json):
    data = body if isinstance(body, bytes) else codec.encode(body)
    return (await bus.nc.request(subjects.CHECK_SERVICE, data, timeout=20)).data


@pytest.mark.parametrize("codec", [msgspec.json, msgspec.msgpack], ids=["json", "msgpack"])
async def test_the_verdict_comes_back_in_the_encoding_of_the_request(gateway, worker, bus, codec):
    event = codec.decode(await _ask(bus, BODY | {"check_id": "mine", "run": "r1"}, codec), type=EvalDone)
    assert (event.verdict, event.check_id, event.run) == ("passed", "mine", "r1")
    assert worker.seen[0].lane == "interactive"
    failed = codec.decode(await _ask(bus, BODY | {"candidate": "#!wrong_result"}, codec))
    assert (failed["type"], failed["verdict"]) == ("eval.done", "wrong_result")


@pytest.mark.parametrize("codec", [msgspec.json, msgspec.msgpack], ids=["json", "msgpack"])
async def test_errors_come_back_as_problems(start_gateway, bus, codec):
    await start_gateway()
    cases = [
        (BODY, 503, "no live executor"),
        (BODY | {"kind": "tourch"}, 400, "known are"),
        ({"candidate": "c"}, 400, "reference"),
        (BODY | {"candidate": 5}, 400, "candidate"),
    ]
    for body, status, says in cases:
        answer = codec.decode(await _ask(bus, body, codec))
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"type", "title", "detail", "status"}
        assert answer["error"]["status"] == status
        assert says in answer["error"]["detail"]


async def test_bytes_that_are_nothing_are_answered_with_a_problem(start_gateway, bus):
    await start_gateway()
    for data in (b"", b"{", b"\xc1", b"\xff" * 100, b'{"candidate": "\xff"}', b"\x91" * 100_000):
        codec = msgspec.json if data.startswith(b"{") else msgspec.msgpack
        assert codec.decode(await _ask(bus, data))["error"]["status"] == 400


async def test_of_two_gateways_each_request_reaches_one_and_none_waits_for_another(
    start_gateway, worker, bus
):
    for gateway in (await start_gateway(), await start_gateway()):
        await gateway.sees(executors=1)
    held = [asyncio.create_task(_ask(bus, BODY | {"candidate": "#!hold"})) for _ in range(20)]
    quick = await asyncio.gather(*(_ask(bus, BODY) for _ in range(20)))
    assert all(msgspec.json.decode(answer)["verdict"] == "passed" for answer in quick)
    assert not any(task.done() for task in held)
    worker.release()
    assert all(msgspec.json.decode(answer)["verdict"] == "passed" for answer in await asyncio.gather(*held))
    assert len(worker.seen) == 40


async def test_who_waits_when_the_gateway_stops_is_told(gateway, worker, bus):
    asking = asyncio.create_task(_ask(bus, BODY | {"candidate": "#!hold"}))
    await async_wait_until(lambda: worker.seen)
    gateway.stop.set()
    assert msgspec.json.decode(await asking)["error"]["status"] == 503


@pytest.mark.parametrize(
    "reply", ["eval.done.theirs.check.0", "live.eval.done.theirs.check.0", "$KV.workers.x"]
)
async def test_an_answer_is_never_sent_to_where_events_are(gateway, worker, bus, reply):
    """The server checks no reply subject: the gateway's verdict would stand as another check's."""
    await bus.nc.publish(
        subjects.CHECK_SERVICE, msgspec.json.encode(BODY | {"check_id": "mine"}), reply=reply
    )
    event = msgspec.json.decode(await _ask(bus, BODY | {"check_id": "after"}), type=EvalDone)
    assert event.check_id == "after"
    assert [request.check_id for request in worker.seen] == ["after"]
    assert await bus.last_by_subject(subjects.EVALS, "eval.done.theirs.check.0") is None
