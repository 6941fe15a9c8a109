"""One connection: acknowledged publishing, back-pressure, verdicts that are stored once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js.api import PubAck

from keck import bus as bus_module
from keck import subjects
from keck.bus import Bus, connect
from keck.errors import BadRequest, QueueFull, Unavailable
from keck.messages import CheckProgress, EvalDone, decode, encode
from keck.settings import Settings
from keck.subjects import CheckKey
from keck.testing import NatsServer, async_wait_until, sample_eval_done, sample_request


def _subject(event: EvalDone) -> str:
    return subjects.eval_done(CheckKey(event.run, event.check_id, event.generation))


async def test_a_message_published_twice_is_stored_once(bus: Bus) -> None:
    request = sample_request()
    subject = subjects.check_requested(request.lane, request.run, request.check_id)
    first = await bus.publish(subject, request, msg_id="same")
    again = await bus.publish(subject, request, msg_id="same")
    other = await bus.publish(subject, request, msg_id="other")
    assert first == again
    assert other == first + 1


async def test_a_full_queue_refuses_and_says_so(bus: Bus) -> None:
    info = await bus.api("STREAM.INFO.CHECKS", {})
    await bus.api("STREAM.UPDATE.CHECKS", {**info["config"], "max_msgs": 1})
    request = sample_request()
    await bus.publish("check.requested.bulk.default.a", request, msg_id="a")
    with pytest.raises(QueueFull) as refusal:
        await bus.publish("check.requested.bulk.default.b", request, msg_id="b")
    assert refusal.value.retry_after_s > 0


async def test_a_message_larger_than_the_stream_takes_is_a_bad_request(bus: Bus) -> None:
    with pytest.raises(BadRequest, match="more than the stream takes"):
        await bus.store("check.requested.bulk.default.a", b"x" * (2 << 20))
    with pytest.raises(BadRequest, match="more than the NATS server takes"):
        await bus.store("check.requested.bulk.default.a", b"x" * (9 << 20))


async def test_publishing_where_no_stream_listens_is_unavailable(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_PUBLISH_PAUSES_S", (0.01,))
    with pytest.raises(Unavailable, match=r"nowhere\.at\.all"):
        await bus.publish("nowhere.at.all", sample_request(), msg_id="a")


async def test_publishing_survives_a_restart_of_the_server(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.kill()
    await async_wait_until(lambda: not bus.nc.is_connected)
    publishing = asyncio.create_task(
        bus.publish("check.requested.bulk.default.a", sample_request(), msg_id="a")
    )
    await asyncio.to_thread(nats_server.start)
    await publishing
    assert (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"] == 1


async def test_a_second_verdict_is_refused_and_the_first_stays(bus: Bus) -> None:
    first = sample_eval_done(message="first")
    assert await bus.publish_terminal(first) is True
    second = sample_eval_done(message="second", check_id=first.check_id)
    assert await bus.publish_terminal(second) is False
    stored = await bus.last_by_subject(subjects.EVALS, _subject(first))
    assert stored is not None
    assert decode(stored[1], EvalDone).message == "first"


async def test_a_check_is_decided_once_its_verdict_is_stored_and_only_in_that_generation(bus: Bus) -> None:
    event = sample_eval_done()
    key = CheckKey(event.run, event.check_id, event.generation)
    assert not await bus.is_decided(key)
    await bus.publish_terminal(event)
    assert await bus.is_decided(key)
    assert not await bus.is_decided(key._replace(generation=1))


async def test_of_many_writers_exactly_one_decides(bus: Bus) -> None:
    check_id = sample_request().check_id
    verdicts = [sample_eval_done(message=str(writer), check_id=check_id) for writer in range(20)]
    stored = await asyncio.gather(*map(bus.publish_terminal, verdicts))
    assert sorted(stored) == [False] * 19 + [True]


def _verdicts(*names: str, message: str = "") -> list[EvalDone]:
    return [sample_eval_done(sample_request(check_id=name), message=message) for name in names]


async def test_of_many_verdicts_at_once_each_is_stored_unless_its_check_has_one(bus: Bus) -> None:
    assert await bus.publish_terminals([]) == []
    assert await bus.publish_terminals(_verdicts("b", "d", message="first")) == [True, True]
    assert await bus.publish_terminals(_verdicts("a", "b", "c", "d")) == [True, False, True, False]
    stored = await bus.last_by_subject(subjects.EVALS, "eval.done.default.b.0")
    assert stored is not None
    assert decode(stored[1], EvalDone).message == "first"


async def test_of_many_verdicts_at_once_none_is_lost_with_its_answer(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that never come: each verdict is published once more, by itself, and found to be stored."""
    monkeypatch.setattr(bus_module, "_ACK_TIMEOUT_S", 0.2)
    subscribe = bus.nc.subscribe

    async def deaf(subject: str, **options: Any) -> Any:
        return await subscribe(f"deaf.{subject}", **options)

    monkeypatch.setattr(bus.nc, "subscribe", deaf)
    assert await bus.publish_terminals(_verdicts("a", "b")) == [True, True]
    assert (await bus.api("STREAM.INFO.EVALS", {}))["state"]["messages"] == 2


async def test_a_batch_holds_what_was_asked_for_in_order(bus: Bus) -> None:
    await bus.publish_terminals(_verdicts(*"abcdef"))
    await bus.publish_terminals([sample_eval_done(sample_request(check_id="x", run="other"))])

    async def read(**query: Any) -> list[str]:
        return [
            subjects.check_key((message.headers or {})["Nats-Subject"]).check_id
            async for message in bus.batch(subjects.EVALS, query)
        ]

    assert await read(batch=3, seq=1, next_by_subj="eval.done.default.>") == ["a", "b", "c"]
    assert await read(batch=9, seq=4, next_by_subj="eval.done.*.*.0") == ["d", "e", "f", "x"]
    assert await read(batch=9, seq=1, next_by_subj="eval.done.nobody.>") == []
    size = len(encode(_verdicts("a")[0]))
    query = {"batch": 9, "seq": 1, "next_by_subj": ">"}
    cut = [message async for message in bus.batch(subjects.EVALS, query, limit_bytes=2 * size)]
    assert 1 <= len(cut) < 7


async def test_a_batch_of_a_stream_that_nobody_serves_is_unavailable_and_not_empty(bus: Bus) -> None:
    async def read() -> list[Msg]:
        return [message async for message in bus.batch("NOWHERE", {"batch": 1, "seq": 1})]

    with pytest.raises(Unavailable):
        await read()


async def test_each_generation_has_a_verdict_of_its_own(bus: Bus) -> None:
    event = sample_eval_done()
    assert await bus.publish_terminal(event)
    assert await bus.publish_terminal(sample_eval_done(check_id=event.check_id, generation=1))


@pytest.mark.parametrize("dedup_forgot", [False, True], ids=["within-the-window", "after-the-window"])
async def test_our_own_verdict_is_recognised_after_its_acknowledgement_was_lost(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, dedup_forgot: bool
) -> None:
    publish, calls = bus.js.publish, 0

    async def losing_the_first_ack(
        subject: str, payload: bytes, *, timeout: float, headers: Mapping[str, str]
    ) -> PubAck:
        nonlocal calls
        calls += 1
        kept = {k: v for k, v in headers.items() if k != subjects.MSG_ID or not dedup_forgot}
        ack = await publish(subject, payload, timeout=timeout, headers=kept)
        if calls == 1:
            raise TimeoutError
        return ack

    monkeypatch.setattr(bus.js, "publish", losing_the_first_ack)
    event = sample_eval_done()
    assert await bus.publish_terminal(event) is True
    assert calls == 2
    assert await bus.publish_terminal(sample_eval_done(message="late", check_id=event.check_id)) is False


async def test_a_verdict_stays_the_only_one_across_a_restart(nats_server: NatsServer, bus: Bus) -> None:
    event = sample_eval_done()
    assert await bus.publish_terminal(event)
    await asyncio.to_thread(nats_server.restart)
    late = sample_eval_done(message="late", check_id=event.check_id)
    assert await bus.publish_terminal(late) is False


async def test_what_is_heard_live_is_already_stored(bus: Bus) -> None:
    heard: list[tuple[Msg, bool]] = []

    async def listen(message: Msg) -> None:
        stored = await bus.last_by_subject(subjects.EVALS, message.subject.removeprefix("live."))
        heard.append((message, stored is not None and stored[1] == message.data))

    await bus.subscribe(subjects.LIVE_EVALS, listen)
    event = sample_eval_done()
    await bus.publish_terminal(event)
    await async_wait_until(lambda: heard)
    message, was_stored = heard[0]
    assert was_stored
    assert decode(message.data, EvalDone) == event
    assert subjects.check_key(message.subject) == (event.run, event.check_id, event.generation)


async def test_nothing_on_a_subject_reads_as_none(bus: Bus) -> None:
    assert await bus.last_by_subject(subjects.EVALS, "eval.done.default.none.0") is None


async def test_a_subscription_hears_whatever_others_publish_from_then_on(nats_server: NatsServer) -> None:
    async with (
        await Bus.connect(nats_server.url, name="hears") as hears,
        await Bus.connect(nats_server.url, name="says") as says,
    ):
        heard: list[str] = []

        async def listen(message: Msg) -> None:
            heard.append(message.subject)

        for number in range(100):
            await hears.subscribe(f"subject.{number}", listen)
            await says.nc.publish(f"subject.{number}", b"")
            await says.barrier()
        await async_wait_until(lambda: len(heard) == 100)


async def test_a_subscriber_that_raises_hears_the_next_message(bus: Bus) -> None:
    heard: list[bytes] = []

    async def fail_once(message: Msg) -> None:
        heard.append(message.data)
        if len(heard) == 1:
            raise RuntimeError("on purpose")

    await bus.subscribe("some.subject", fail_once)
    await bus.nc.publish("some.subject", b"1")
    await bus.nc.publish("some.subject", b"2")
    await async_wait_until(lambda: heard == [b"1", b"2"])
    await bus.nc.rtt(timeout=2)


async def test_progress_reaches_listeners_and_never_raises(bus: Bus) -> None:
    heard: list[bytes] = []

    async def listen(message: Msg) -> None:
        heard.append(message.data)

    progress = CheckProgress(
        check_id="a", run="default", generation=0, stage="compile", message="compiling", at=1.0
    )
    await bus.subscribe(subjects.PROGRESS, listen)
    await bus.publish_progress(progress)
    await async_wait_until(lambda: heard == [encode(progress)])
    await bus.close()
    await bus.publish_progress(progress)


async def test_where_nobody_listens_connecting_fails_soon_with_advice() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1\b.*KECK_NATS_URL"):
            await Bus.connect("nats://127.0.0.1:1", name="test")


async def test_a_server_that_speaks_no_nats_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_CONNECT_TIMEOUT_S", 0.3)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with mute, asyncio.timeout(2):
        with pytest.raises(Unavailable, match="no answer in time"):
            await connect(Settings(nats_url=f"nats://127.0.0.1:{port}"), name="test")


async def test_a_password_never_shows_in_an_error() -> None:
    with pytest.raises(Unavailable) as refusal:
        await Bus.connect("nats://someone:hunter2@127.0.0.1:1", name="test")
    assert "hunter2" not in str(refusal.value)


async def test_closing_tells_the_owner_once_and_may_be_repeated(nats_server: NatsServer) -> None:
    closed: list[Any] = []
    bus = await Bus.connect(nats_server.url, name="test", on_closed=lambda: closed.append(1))
    await bus.close()
    await bus.close()
    assert closed == [1]
