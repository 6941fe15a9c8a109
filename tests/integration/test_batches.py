"""Many checks over a real gateway and a real bus: streams both ways, lost connections, full queues."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import httpx
import msgspec
import pytest

from keck import (
    BadRequest,
    Check,
    CheckKey,
    CheckRequested,
    Client,
    DeadlineExceeded,
    EvalDone,
    Settings,
    SyncClient,
    Unavailable,
    Verdict,
)
from keck.messages import MAX_SOURCE_BYTES
from keck.played import PlayedSystem
from keck.testing import async_wait_until, sample_eval_done, sample_request, wait_until

SAMPLE = sample_request()
SOURCES = (SAMPLE.candidate, SAMPLE.reference)
SETTINGS = Settings()
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def running() -> Iterator[PlayedSystem]:
    with PlayedSystem() as system:
        yield system


@pytest.fixture
def system(running: PlayedSystem) -> Iterator[PlayedSystem]:
    """The module's system, as it was at the start."""
    running.answer = sample_eval_done
    running.requests.clear()
    return running


@pytest.fixture(params=["http", "nats"])
async def client(request: pytest.FixtureRequest, system: PlayedSystem) -> AsyncIterator[Client]:
    async with Client(getattr(system, f"{request.param}_url"), settings=SETTINGS) as connected:
        yield connected


def line(name: str, **more: object) -> bytes:
    check = {"candidate": SOURCES[0], "reference": SOURCES[1], "check_id": name, "run": "lines", **more}
    return msgspec.json.encode(check) + b"\n"


def answers(response: httpx.Response) -> list[dict[str, object]]:
    return [msgspec.json.decode(text) for text in response.content.split(b"\n") if text]


async def test_thousands_of_checks_come_back_each_with_its_own_verdict(
    system: PlayedSystem, client: Client
) -> None:
    def half_of_them_fail(request: CheckRequested) -> EvalDone:
        return sample_eval_done(
            request, verdict=Verdict.PASSED if request.candidate.endswith("0") else Verdict.CRASHED
        )

    system.answer = half_of_them_fail
    checks = (Check(f"{SOURCES[0]}# {n} {n % 2}", SOURCES[1], run="many") for n in range(2000))
    seen = Counter[int]()
    async for checked in client.check_many(checks):
        assert checked.result().verdict is (Verdict.CRASHED if checked.index % 2 else Verdict.PASSED)
        seen[checked.index] += 1
    assert seen == Counter(range(2000))
    assert {request.lane for request in system.requests} == {"bulk"}


async def test_order_is_kept_where_it_is_asked_for(system: PlayedSystem, client: Client) -> None:
    held: list[CheckRequested] = []

    def hold_the_first(request: CheckRequested) -> EvalDone | None:
        if request.candidate.endswith("#0"):
            held.append(request)
            return None
        return sample_eval_done(request)

    system.answer = hold_the_first
    checks = [Check(f"{SOURCES[0]}#{n}", SOURCES[1]) for n in range(20)]
    async with aclosing(client.check_many(checks, ordered=True)) as coming:
        first = asyncio.create_task(anext(coming))
        await async_wait_until(lambda: len(system.requests) == 20, 20)
        assert not first.done()
        await asyncio.to_thread(system.decide, sample_eval_done(held[0]))
        assert [(await first).index, *[checked.index async for checked in coming]] == list(range(20))


async def test_a_check_that_can_never_work_leaves_the_others_alone(client: Client) -> None:
    checks = [
        Check(*SOURCES),
        Check("#" * (MAX_SOURCE_BYTES + 1), SOURCES[1]),
        Check(*SOURCES, options={"devise": "cpu"}),
        Check(*SOURCES),
    ]
    found = [checked async for checked in client.check_many(checks, ordered=True)]
    assert [type(checked.error) for checked in found] == [type(None), BadRequest, BadRequest, type(None)]
    assert "at most 393216" in str(found[1].error)
    assert "devise" in str(found[2].error)


async def test_a_bus_that_restarts_while_checks_wait_costs_none_of_them(client: Client) -> None:
    # Of its own: other tests' connections must not be cut.
    with PlayedSystem(lambda _: None) as own:
        url = own.http_url if client.url.startswith("http") else own.nats_url
        async with Client(url, settings=SETTINGS) as mine:
            checks = [Check(f"{SOURCES[0]}#{n}", SOURCES[1]) for n in range(50)]

            async def judged() -> list[EvalDone]:
                return [checked.result() async for checked in mine.check_many(checks)]

            waiting = asyncio.create_task(judged())
            await async_wait_until(lambda: len(own.requests) == 50, 20)
            await asyncio.to_thread(own.restart_bus)
            for request in list(own.requests):
                await asyncio.to_thread(own.decide, sample_eval_done(request))
            assert len(await asyncio.wait_for(waiting, 60)) == 50


async def test_a_gateway_that_is_killed_while_checks_wait_costs_none_and_judges_none_twice() -> None:
    with PlayedSystem(lambda _: None) as own:
        async with Client(own.http_url, settings=SETTINGS) as client:
            checks = [Check(f"{SOURCES[0]}#{n}", SOURCES[1]) for n in range(50)]

            async def judged() -> list[EvalDone]:
                return [checked.result() async for checked in client.check_many(checks)]

            waiting = asyncio.create_task(judged())
            await async_wait_until(lambda: len(own.requests) == 50, 20)
            await asyncio.to_thread(own.stop_gateway, kill=True)
            for request in own.requests[:25]:
                await asyncio.to_thread(own.decide, sample_eval_done(request))
            await asyncio.to_thread(own.start_gateway)
            for request in own.requests[25:50]:
                await asyncio.to_thread(own.decide, sample_eval_done(request))
            assert len({event.check_id for event in await asyncio.wait_for(waiting, 60)}) == 50
            assert len({request.check_id for request in own.requests}) == 50


async def test_a_gateway_that_never_comes_back_is_an_error_of_each_check() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        async with Client(f"http://127.0.0.1:{taken.getsockname()[1]}", settings=SETTINGS) as client:
            client._transport._batches._pauses_s = (0.01,)  # type: ignore[attr-defined]
            found = [checked async for checked in client.check_many([Check(*SOURCES)] * 3, patience_s=0.2)]
    assert [type(checked.error) for checked in found] == [Unavailable] * 3


async def test_a_check_that_nobody_decides_ends_with_its_deadline(
    system: PlayedSystem, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keck.client._DEADLINE_GRACE_S", 3.0)
    system.answer = lambda _: None
    found = [checked async for checked in client.check_many([Check(*SOURCES, deadline_s=0.5)])]
    assert isinstance(found[0].error, DeadlineExceeded)


async def test_leaving_early_leaves_nothing_behind(system: PlayedSystem, client: Client) -> None:
    system.answer = lambda request: sample_eval_done(request) if request.candidate.endswith("#0") else None
    before = asyncio.all_tasks()
    checks = (Check(f"{SOURCES[0]}#{n}", SOURCES[1]) for n in range(1000))
    async with aclosing(client.check_many(checks, at_once=10)) as coming:
        assert (await anext(coming)).index == 0
    await client.__aexit__(None, None, None)
    await async_wait_until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.parametrize("scheme", ["http", "nats"])
async def test_the_blocking_twin_works_where_an_event_loop_runs_as_in_a_notebook(
    system: PlayedSystem, scheme: str
) -> None:
    assert asyncio.get_running_loop().is_running()
    with SyncClient(getattr(system, f"{scheme}_url"), settings=SETTINGS) as client:
        checks = [Check(f"{SOURCES[0]}#{n}", SOURCES[1], run="notebook") for n in range(30)]
        assert [checked.index for checked in client.check_many(checks, ordered=True)] == list(range(30))
        for checked in client.check_many(checks):  # left early
            assert checked.result().run == "notebook"
            break
        stages = list(client.follow(*SOURCES, check_id=f"followed-{scheme}"))
        assert isinstance(stages[-1], EvalDone)
        again = list(client.events(CheckKey("default", f"followed-{scheme}", 0)))
        assert again[-1] == stages[-1]
        assert client.check_patiently(Check(*SOURCES)).verdict is Verdict.PASSED


# --- the route itself


async def test_a_verdict_comes_while_lines_are_still_sent(system: PlayedSystem) -> None:
    """Lines both ways at once, as `curl -T -` does; httpx reads no answer before all is sent."""
    host, port = system.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/batches HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    first, second = line("now-1"), line("now-2")
    writer.write(head + f"{len(first):x}\r\n".encode() + first + b"\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(reader.readuntil(b'"check_id":"now-1"'), 10)
    writer.write(f"{len(second):x}\r\n".encode() + second + b"\r\n0\r\n\r\n")
    rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
    assert b'"check_id":"now-2"' in rest
    writer.close()


async def test_every_line_has_an_answer_that_names_it(system: PlayedSystem) -> None:
    lines = [
        line("named"),
        b"\n",
        b"{not json}\n",
        line("bad id!"),
        line("strange", devise="cpu"),
        line("named", candidate=SOURCES[0] + "# another"),
        line("last").rstrip(),
    ]
    async with httpx.AsyncClient(base_url=system.http_url) as http:
        await http.post("/v1/batches", content=lines[0], headers=NDJSON)
        response = await http.post("/v1/batches", content=b"".join(lines), headers=NDJSON)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    by_line = {answer["line"]: answer for answer in answers(response)}
    assert sorted(by_line) == [1, 2, 3, 4, 5, 6]  # empty lines are none
    assert [by_line[number]["type"] for number in (1, 6)] == ["eval.done"] * 2
    assert [by_line[number]["status"] for number in (2, 3, 4, 5)] == [400, 400, 400, 409]
    assert by_line[5]["check_id"] == "named"
    assert "devise" in str(by_line[4]["detail"])
    assert by_line[5]["retry_after_s"] is None


async def test_a_batch_has_an_end_and_says_where(system: PlayedSystem) -> None:
    body = b"".join(line(f"end-{n}") for n in range(1030))
    async with httpx.AsyncClient(base_url=system.http_url, timeout=60) as http:
        response = await http.post("/v1/batches", content=body, headers=NDJSON)
        too_long = await http.post(
            "/v1/batches", content=line("before") + b"x" * (3 << 20) + b"\n" + line("after"), headers=NDJSON
        )
    found = answers(response)
    assert Counter(answer["type"] for answer in found)["eval.done"] == 1024
    refused = [answer for answer in found if answer["type"] != "eval.done"]
    assert [(answer["line"], answer["status"]) for answer in refused] == [(1025, 413)]
    assert sorted((answer["line"], answer.get("status")) for answer in answers(too_long)) == [
        (1, None),
        (2, 413),
    ]


async def test_a_body_that_says_it_is_something_else_is_refused(system: PlayedSystem) -> None:
    async with httpx.AsyncClient(base_url=system.http_url) as http:
        response = await http.post("/v1/batches", content=line("x"), headers={"Content-Type": "text/html"})
    assert response.status_code == 415
    assert "application/x-ndjson" in response.json()["detail"]


async def test_an_end_of_line_of_unicodes_in_a_verdict_does_not_cut_it(
    system: PlayedSystem, client: Client
) -> None:
    strange = "one\u2028two\x85three\x1cfour"
    system.answer = lambda request: sample_eval_done(request, log=strange)
    found = [checked.result() async for checked in client.check_many([Check(*SOURCES)])]
    assert found[0].log == strange
    events = [event async for event in client.follow(*SOURCES)]
    assert isinstance(events[-1], EvalDone)
    assert events[-1].log == strange


def test_callers_on_many_threads_share_a_client(system: PlayedSystem) -> None:
    found: list[str] = []
    with SyncClient(system.http_url, settings=SETTINGS) as client:

        def one(number: int) -> None:
            verdict = client.check_patiently(
                Check(f"{SOURCES[0]}#{number}", SOURCES[1], check_id=f"t{number}")
            )
            found.append(verdict.check_id)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        wait_until(lambda: not any(thread.is_alive() for thread in threads), 30)
    assert sorted(found) == sorted(f"t{number}" for number in range(40))
