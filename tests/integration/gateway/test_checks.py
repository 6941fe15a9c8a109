"""The v1 routes: submitting, waiting, asking."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest

from keck import subjects
from keck.hashing import sha256_hex
from keck.messages import CheckProgress, EvalDone, Hashes, to_json
from keck.streams import ensure_target
from keck.testing import async_wait_until, sample_compile_done, sample_eval_done, sample_request


async def test_a_check_is_accepted_with_its_links_and_judged_in_the_bulk_lane(gateway, worker):
    response = await gateway.post(check_id="mine", run="train-7")
    assert response.status_code == 202
    assert response.json() == {
        "check_id": "mine",
        "run": "train-7",
        "generation": 0,
        "links": {
            "self": "/v1/checks/mine?run=train-7&generation=0",
            "events": "/v1/checks/mine/events?run=train-7&generation=0",
        },
    }
    assert response.headers["location"] == response.json()["links"]["self"]
    event = await _verdict(gateway, response.json()["links"]["self"])
    assert (event["type"], event["verdict"], event["check_id"]) == ("eval.done", "passed", "mine")
    assert worker.seen[0].lane == "bulk"


async def test_waiting_returns_the_whole_verdict_with_every_field_present(gateway, worker):
    response = await gateway.post("/v1/checks?wait=10", options={"profile": True, "tolerance": "keck"})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"type", *EvalDone.__struct_fields__}
    assert answer["flags"] == []
    assert answer["profile"] == {"torch": "torch table", "cuda": "cuda table"}
    assert answer["options"]["tolerance"] == "keck"
    assert msgspec.json.decode(response.content, type=EvalDone).verdict == "passed"
    assert worker.seen[0].lane == "interactive"


async def test_a_wait_that_is_over_answers_202_and_the_check_goes_on(gateway, worker):
    response = await gateway.post("/v1/checks?wait=0.2", candidate="#!hold")
    assert response.status_code == 202
    link = response.json()["links"]["self"]
    assert (await gateway.http.get(link)).json()["state"] == "building"
    worker.release()
    assert (await _verdict(gateway, link))["verdict"] == "passed"


async def test_the_state_is_read_from_the_streams_at_every_stage(start_gateway, bus):
    gateway = await start_gateway()
    for name in ("first", "second"):
        await gateway.post(check_id=name)
    path = "/v1/checks/second?run=default"
    queued = (await gateway.http.get(path)).json()
    assert (queued["type"], queued["state"], queued["queue_position"]) == ("check.state", "queued", 1)
    assert queued["progress"] is None

    pull = await bus.js.pull_subscribe_bind("compile-bulk", stream=subjects.CHECKS)
    messages = await pull.fetch(2)
    await _state(gateway, path, "building")

    await ensure_target(bus, "sm90")
    build = sample_compile_done(sample_request(check_id="second"), target="sm90", lane="bulk")
    await bus.publish(subjects.compile_done("sm90", "bulk", "default", "second"), build, msg_id="second")
    for message in messages:
        await message.ack_sync()
    built = await _state(gateway, path, "built")
    assert built["queue_position"] == 0

    await bus.publish_progress(
        CheckProgress(
            check_id="second", run="default", generation=0, stage="timing", message="timing", at=1.0
        )
    )
    pull = await bus.js.pull_subscribe_bind("execute-sm90-bulk", stream=subjects.BUILDS)
    [message] = await pull.fetch(1)
    running = await _state(gateway, path, "running")
    assert (running["queue_position"], running["progress"]["stage"]) == (None, "timing")
    await message.ack_sync()
    # Consumed everywhere: only HISTORY tells now.
    await _state(gateway, path, "running")


async def test_the_same_id_with_the_same_content_is_one_check(gateway, worker):
    for wait in ("", "?wait=10"):
        response = await gateway.post(f"/v1/checks{wait}", check_id="once")
        assert response.is_success
    answers = await asyncio.gather(*(gateway.post("/v1/checks?wait=10", check_id="twice") for _ in range(8)))
    assert {answer.json()["check_id"] for answer in answers} == {"twice"}
    assert sorted(request.check_id for request in worker.seen) == ["once", "twice"]


async def test_the_same_id_with_other_content_is_a_conflict_whether_queued_or_judged(gateway, worker):
    await gateway.post(candidate="#!hold", check_id="mine")
    changed = (
        {"candidate": "other"},
        {"candidate": "#!hold", "reference": "other"},
        {"candidate": "#!hold", "kind": "torch"},
        {"candidate": "#!hold", "options": {"profile": True}},
    )
    for body in changed:
        for path in ("/v1/checks", "/v1/checks?wait=5"):
            _is_problem(await gateway.post(path, check_id="mine", **body), 409, "fresh id")
    worker.release()
    await _verdict(gateway, "/v1/checks/mine")
    for body in changed:
        _is_problem(await gateway.post(check_id="mine", **body), 409, "in use")
    assert (await gateway.post(candidate="other", check_id="mine", run="another")).status_code == 202


async def test_a_verdict_that_is_there_needs_no_executor(start_gateway, bus):
    gateway = await start_gateway()
    body = {"check_id": "judged", "candidate": "c", "reference": "r"}
    request = sample_request(**body)
    event = sample_eval_done(
        request, hashes=Hashes(candidate=sha256_hex("c"), reference=sha256_hex("r"), artifact="")
    )
    await bus.publish_terminal(event)
    response = await gateway.post("/v1/checks?wait=5", **body)
    assert response.status_code == 200
    assert response.content == to_json(event)


async def test_a_waiting_call_without_an_executor_is_503_and_an_asynchronous_one_is_queued(
    start_gateway, beat, make_heartbeat
):
    gateway = await start_gateway()
    _is_problem(await gateway.post("/v1/checks?wait=1"), 503, "no live executor")
    assert (await gateway.post()).status_code == 202
    await beat(make_heartbeat("executor", target="cpu"))
    await gateway.sees(executors=1)
    for refused in ({"options": {"device": "cuda"}}, {"candidate": "import triton\n"}):
        _is_problem(await gateway.post("/v1/checks?wait=1", **refused), 503, "no live CUDA executor")
    assert (await gateway.post("/v1/checks?wait=0.05", options={"device": "cpu"})).status_code == 202
    await beat(make_heartbeat("executor", target="sm90"))
    await gateway.sees(executors=2)
    assert (await gateway.post("/v1/checks?wait=0.05", options={"device": "cuda"})).status_code == 202


async def test_a_full_queue_is_429_with_retry_after(start_gateway, bus, worker):
    gateway = await start_gateway()
    await gateway.sees(executors=1)
    await bus.api("STREAM.UPDATE.CHECKS", (await _config(bus, "CHECKS")) | {"max_msgs": 1})
    await gateway.post(candidate="#!hold")
    for response in (await gateway.post(), await gateway.post("/v1/checks?wait=5")):
        _is_problem(response, 429, "full")
        assert int(response.headers["retry-after"]) > 0
    form = {"cuda_code": "class ModelNew: ...", "torch_code": "class Model: ..."}
    response = await gateway.http.post("/compute_score", data=form)
    assert (response.status_code, response.json()["formated"]) == (429, False)
    assert response.json()["msg"].startswith("failed: infrastructure: ")
    assert int(response.headers["retry-after"]) > 0


async def test_more_callers_than_may_wait_get_429(start_gateway, worker):
    gateway = await start_gateway(max_waiting=2)
    await gateway.sees(executors=1)
    waiting = [asyncio.create_task(gateway.post("/v1/checks?wait=10", candidate="#!hold")) for _ in range(2)]
    await async_wait_until(lambda: len(worker.seen) == 2)
    response = await gateway.post("/v1/checks?wait=10")
    _is_problem(response, 429, "KECK_MAX_WAITING")
    assert "retry-after" in response.headers
    assert (await gateway.post()).status_code == 202
    worker.release()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_caller_that_leaves_gives_up_its_place(start_gateway, worker):
    gateway = await start_gateway(max_waiting=1)
    await gateway.sees(executors=1)
    for path, body in (
        ("/v1/checks?wait=30", {"json": {"candidate": "#!hold", "reference": "r"}}),
        ("/compute_score", {"data": {"cuda_code": "#!hold", "torch_code": "r"}}),
    ):
        before = len(worker.seen)
        waiting = asyncio.create_task(gateway.http.post(path, **body))
        await async_wait_until(lambda: len(worker.seen) == before + 1)  # noqa: B023 - awaited at once
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await _has_room(gateway)


@pytest.mark.timeout(120)
async def test_three_hundred_callers_wait_at_once_and_all_are_answered(gateway, worker):
    async def ask(number: int) -> httpx.Response:
        return await gateway.post("/v1/checks?wait=50", candidate="#!hold", check_id=f"check-{number}")

    asking = [asyncio.create_task(ask(number)) for number in range(300)]
    await async_wait_until(lambda: len(worker.seen) == 300, timeout_s=45)
    worker.release()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["check_id"] for answer in answers] == [f"check-{n}" for n in range(300)]


async def test_a_gateway_that_starts_later_answers_from_the_streams(start_gateway, worker):
    first = await start_gateway()
    await first.sees(executors=1)
    await first.post(check_id="done")
    await _verdict(first, "/v1/checks/done")
    await first.post(check_id="open", candidate="#!hold")
    first.stop.set()
    second = await start_gateway()
    assert (await second.http.get("/v1/checks/done")).json()["verdict"] == "passed"
    assert (await second.http.get("/v1/checks/open")).json()["state"] == "building"
    worker.release()
    assert (await _verdict(second, "/v1/checks/open"))["verdict"] == "passed"


async def test_a_verdict_stored_while_the_bus_was_away_is_still_answered(gateway, nats_server, worker):
    waiting = asyncio.create_task(gateway.post("/v1/checks?wait=40", candidate="#!hold"))
    await async_wait_until(lambda: len(worker.seen) == 1)
    await asyncio.to_thread(nats_server.restart)
    worker.release()
    response = await waiting
    assert (response.status_code, response.json()["verdict"]) == (200, "passed")


async def test_who_waits_when_the_gateway_stops_is_told_to_ask_again(gateway, worker):
    form = {"cuda_code": "#!hold", "torch_code": "r"}
    waiting = [
        asyncio.create_task(gateway.post("/v1/checks?wait=40", candidate="#!hold")),
        asyncio.create_task(gateway.http.post("/compute_score", data=form)),
    ]
    await async_wait_until(lambda: len(worker.seen) == 2)
    gateway.stop.set()
    v1, original = await asyncio.gather(*waiting)
    _is_problem(v1, 503, "shutting down")
    assert original.status_code == 503
    assert original.json()["msg"].startswith("failed: infrastructure")
    assert "retry-after" in v1.headers
    assert "retry-after" in original.headers


BAD_BODIES = [
    (b"", 400, "body"),
    (b"{", 400, "truncated"),
    (b"[]", 400, "object"),
    (b"[" * 200_000, 400, "nested"),
    (b'{"candidate": "\xff", "reference": ""}', 400, "body"),
    (b'{"candidate": "\\ud800", "reference": ""}', 400, "malformed"),
    (b'{"candidate": 1, "reference": ""}', 400, "`candidate`"),
    (b'{"candidate": ""}', 400, "`reference`"),
    (b'{"candidate": "", "reference": "", "lnae": "bulk"}', 400, "lnae"),
    (b'{"candidate": "", "reference": "", "options": {"atoll": 1}}', 400, "atoll"),
    (b'{"candidate": "", "reference": "", "options": {"atol": -1}}', 400, "atol"),
    (b'{"candidate": "", "reference": "", "kind": "tourch"}', 400, "known are kernel, lint, torch"),
    (b'{"candidate": "", "reference": "", "check_id": "a.b"}', 400, "check_id"),
    (b'{"candidate": "", "reference": "", "check_id": "line\\n"}', 400, "check_id"),
    (b'{"candidate": "", "reference": "", "run": "*"}', 400, "run"),
    (b'{"candidate": "", "reference": "", "deadline_s": 0}', 400, "deadline_s"),
    (b'{"candidate": "", "reference": "' + b"r" * 400_000 + b'"}', 400, "at most 393216"),
    (b'{"candidate": "", "reference": "' + b"r" * 3_000_000 + b'"}', 413, "2097152"),
]


async def test_a_body_that_cannot_be_taken_is_a_problem_that_says_what_to_change(gateway, worker):
    for content, status, says in BAD_BODIES:
        response = await gateway.http.post("/v1/checks", content=content)
        _is_problem(response, status, says)
    assert worker.seen == []


async def test_every_other_error_is_a_problem_as_well(gateway):
    ask, post = gateway.http.get, gateway.http.post
    _is_problem(await ask("/v1/checks/never-seen"), 404, "never-seen")
    _is_problem(await ask("/v1/checks/never-seen/events"), 404, "never-seen")
    _is_problem(await ask("/nowhere"), 404, "/docs")
    _is_problem(await ask("/v1/checks"), 405, "POST")
    _is_problem(await ask("/compute_score"), 405, "POST")
    _is_problem(await ask("/v1/checks/a%2Eb"), 400, "check_id")
    _is_problem(await ask("/v1/checks/*"), 400, "check_id")
    _is_problem(await ask("/v1/checks/%3E?run=default"), 400, "check_id")
    _is_problem(await ask("/v1/checks/line%0A"), 400, "check_id")
    _is_problem(await ask("/v1/checks/x?run=a.b"), 400, "run")
    _is_problem(await ask("/v1/checks/x?generation=-1"), 400, "generation")
    for wait in ("soon", "-1", "nan", "inf"):
        _is_problem(
            await post(f"/v1/checks?wait={wait}", json={"candidate": "", "reference": ""}), 400, "wait"
        )


async def test_healthz_says_whether_the_bus_is_there(gateway, nats_server):
    await asyncio.to_thread(nats_server.kill)
    health = await gateway.until("/healthz", lambda health: not health["nats_connected"])
    assert health["ray_initialized"] is False
    await asyncio.to_thread(nats_server.start)
    await gateway.until("/healthz", lambda health: health["nats_connected"])


def _is_problem(response: httpx.Response, status: int, says: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert says in problem["detail"]
    if status in (429, 503):
        assert int(response.headers["retry-after"]) > 0


async def _verdict(gateway, link):
    return await gateway.until(link, lambda answer: "verdict" in answer)


async def _state(gateway, link, state):
    """The check's state once it is the one wanted; the queue's front may be half a second old."""
    return await gateway.until(link, lambda answer: answer.get("state") == state)


async def _has_room(gateway):
    async with asyncio.timeout(5):
        while (await gateway.post("/v1/checks?wait=0.05", candidate="#!hold")).status_code != 202:
            pass  # each attempt is a request, which takes its time


async def _config(bus, stream):
    return (await bus.api(f"STREAM.INFO.{stream}", {}))["config"]
