"""More than a request may have, and slower than it may be: each is refused with a problem that says what."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import msgspec
import pytest

from keck import subjects
from keck_gateway import connection, limits

CHECK = {"candidate": "class ModelNew: ...", "reference": "class Model: ..."}


def _is_problem(response, status, says):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert says in response.json()["detail"]


async def test_a_head_that_is_too_large_is_refused(gateway, worker):
    get = gateway.http.get
    _is_problem(await get("/v1/checks/" + "x" * 2_000), 414, "at most 1024")
    _is_problem(await get("/v1/executors", params={"x": "y" * 3_000}), 414, "sources belong into the body")
    _is_problem(await get("/v1/executors", headers={"X-Long": "x" * 20_000}), 431, "of 16384 are taken")
    many = {f"X-{number}": "x" for number in range(70)}
    _is_problem(await get("/healthz", headers=many), 431, "at most 64 of")
    assert (await get("/healthz", headers={f"X-{number}": "x" for number in range(40)})).status_code == 200


async def test_a_refusal_of_the_head_reaches_who_has_sent_a_body(gateway, worker):
    body = b"x" * 900_000
    for _ in range(20):
        refused = await gateway.http.post("/v1/checks", params={"run": "r" * 3_000}, content=body)
        _is_problem(refused, 414, "sources belong into the body")


async def test_what_is_no_request_at_all_is_told_so(gateway):
    for head in (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n", b"nonsense\r\n\r\n"):
        status, problem = await _raw(gateway, head)
        assert status == 400
        assert "no HTTP request that can be read" in problem["detail"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_a_body_of_another_type_is_not_read_as_json(gateway, worker, media_type):
    response = await gateway.http.post(
        "/v1/checks", content=json.dumps(CHECK), headers={"Content-Type": f"{media_type}; charset=utf-8"}
    )
    _is_problem(response, 415, f"the body is {media_type}; send it with `Content-Type: application/json`")
    assert worker.seen == []
    for fine in ("application/json", "Application/JSON; charset=utf-8"):
        response = await gateway.http.post(
            "/v1/checks", content=json.dumps(CHECK), headers={"Content-Type": fine}
        )
        assert response.status_code == 202


async def test_a_body_that_says_nothing_of_its_length_is_counted_as_it_comes(gateway):
    async def endless():
        for _ in range(60):
            yield b"x" * 65_536

    _is_problem(await gateway.http.post("/v1/checks", content=endless()), 413, "2097152")


@pytest.mark.parametrize("field", ["unknown", "options"])
async def test_a_deeply_nested_value_is_refused_wherever_it_is(gateway, field):
    deep = "[" * 100_000 + "]" * 100_000
    body = f'{{"candidate": "c", "reference": "r", "{field}": {deep}}}'
    response = await gateway.http.post("/v1/checks", content=body)
    assert response.status_code == 400
    assert (await gateway.http.get("/healthz")).status_code == 200


async def test_a_generation_beyond_all_reason_is_refused(gateway):
    _is_problem(await gateway.http.get("/v1/checks/x?generation=2147483648"), 400, "generation")
    _is_problem(await gateway.http.get(f"/v1/checks/x?generation={'9' * 1_900}"), 400, "generation")


async def test_event_streams_are_bounded_as_waiters_are(start_gateway, worker):
    gateway = await start_gateway(max_waiting=2)
    await gateway.sees(executors=1)
    check = (await gateway.post(candidate="#!hold", check_id="held")).json()
    async with AsyncExitStack() as stack:
        following = []
        for _ in range(2):
            stream = await stack.enter_async_context(gateway.http.stream("GET", check["links"]["events"]))
            following.append(stream.aiter_lines())
            await anext(following[-1])
        _is_problem(await gateway.http.get(check["links"]["events"]), 429, "2 callers wait")
    worker.release()


# --- time


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.4)
    monkeypatch.setattr(connection, "BODY_TIMEOUT_S", 0.4)


async def test_a_connection_that_sends_nothing_or_half_a_head_is_closed(impatient, start_gateway):
    gateway = await start_gateway()
    for head in (b"", b"GET /healthz HTTP/1.1\r\nHost: local"):
        status, problem = await _raw(gateway, head)
        assert status == 408
        assert "head did not arrive within 0.4 s" in problem["detail"]


async def test_a_body_that_drips_is_cut_off_however_often_it_drips(impatient, start_gateway):
    gateway = await start_gateway()
    reader, writer = await _connect(gateway)
    writer.write(
        b"POST /v1/checks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        b"Content-Type: application/json\r\n\r\n"
    )

    async def drip():
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.05)

    began, dripping = time.monotonic(), asyncio.create_task(drip())
    try:
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:  # a drop arrived after the end
        answer = b""
    dripping.cancel()
    assert time.monotonic() - began < 3
    if answer:
        assert b" 408 " in answer.partition(b"\r\n")[0]
        assert b"body did not arrive within" in answer
    writer.close()


async def test_a_request_that_waits_for_its_verdict_is_not_called_slow(impatient, start_gateway, worker):
    gateway = await start_gateway()
    await gateway.sees(executors=1)
    waiting = asyncio.create_task(gateway.post("/v1/checks?wait=30", candidate="#!hold"))
    await asyncio.sleep(1.0)  # well beyond both timeouts: what is tested is that nothing happens
    assert not waiting.done()
    worker.release()
    assert (await waiting).json()["verdict"] == "passed"


async def test_a_connection_may_be_used_again_and_again(impatient, gateway):
    for _ in range(5):
        assert (await gateway.post()).status_code == 202
        await asyncio.sleep(0.2)


# --- numbers


async def test_connections_beyond_the_limit_are_told_so_and_those_before_it_work(monkeypatch, start_gateway):
    monkeypatch.setattr("keck_gateway.service.connections_for", lambda max_waiting: 3)
    gateway = await start_gateway()
    await gateway.http.aclose()
    held = [await _connect(gateway) for _ in range(3)]
    try:
        status, problem = await _raw(gateway, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, problem["type"]) == (503, "urn:keck:problem:overloaded")
        reader, writer = held[0]
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
    finally:
        for _, writer in held:
            writer.close()
    async with asyncio.timeout(5):  # places come back
        while (await _raw(gateway, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_there_is_room_for_everybody_who_may_wait():
    assert limits.connections_for(4096) > 4096


async def test_requests_on_the_bus_are_bounded_too(start_gateway, worker, bus):
    gateway = await start_gateway(max_waiting=1)
    await gateway.sees(executors=1)
    large = msgspec.json.encode(CHECK | {"candidate": "x" * 3_000_000})
    answer = msgspec.json.decode((await bus.nc.request(subjects.CHECK_SERVICE, large, timeout=10)).data)
    assert answer["error"]["status"] == 413
    body = msgspec.json.encode(CHECK | {"candidate": "#!hold"})
    asked = [asyncio.create_task(bus.nc.request(subjects.CHECK_SERVICE, body, timeout=30)) for _ in range(8)]
    async with asyncio.timeout(10):
        while sum(task.done() for task in asked) < 7:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    worker.release()
    answers = [msgspec.json.decode((await task).data) for task in asked]
    assert [answer["verdict"] for answer in answers if "verdict" in answer] == ["passed"]
    assert {answer["error"]["status"] for answer in answers if "error" in answer} == {429}


async def _connect(gateway):
    return await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))


async def _raw(gateway, data):
    """What a connection gets that sends this and then waits: status and body."""
    reader, writer = await _connect(gateway)
    writer.write(data)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")),
        -1,
    )  # fmt: skip
    body = await asyncio.wait_for(reader.readexactly(length) if length >= 0 else reader.read(), 5)
    writer.close()
    text = body if length >= 0 else body[body.index(b"{") : body.rindex(b"}") + 1]
    return int(head.split()[1]), json.loads(text)
