"""The loop every worker runs: nothing lost, nothing acknowledged early, nothing retried for ever."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from keck import consumer as consumer_module
from keck import subjects
from keck.bus import Bus
from keck.consumer import Consumer
from keck.errors import Reject, Retry
from keck.messages import CheckCancel, CheckRequested, EvalDone, decode, encode, verdict_of
from keck.pull import ConsumerGone
from keck.streams import HANDED_BACK_BUCKET, provision
from keck.subjects import CheckKey
from keck.testing import NatsServer, async_wait_until, sample_request
from keck.verdict import Verdict

_DOOMED = """
import asyncio, sys
from keck.bus import Bus
from keck.consumer import Consumer
from keck.messages import CheckRequested

async def handle(event, attempt):
    print("started", flush=True)
    await asyncio.Event().wait()

async def main():
    bus = await Bus.connect(sys.argv[1], name="doomed")
    await Consumer(
        bus, stream="CHECKS", consumers=["compile-interactive", "compile-bulk"], expect=CheckRequested,
        slots=1, handle=handle, on_exhausted=handle,
    ).run()

asyncio.run(main())
"""


class _Worker:
    """A consumer of checks that remembers what happened to it."""

    def __init__(
        self,
        bus: Bus,
        *,
        slots: int = 1,
        act: Callable[[CheckRequested, int], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        self.started: list[tuple[str, int]] = []
        self.exhausted: list[tuple[str, str, str, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._bus = bus
        self._act = act
        self.consumer = Consumer(
            bus,
            stream=subjects.CHECKS,
            consumers=[subjects.compile_consumer(lane) for lane in subjects.LANES],
            expect=CheckRequested,
            slots=slots,
            handle=self._handle,
            on_exhausted=self._exhaust,
            **options,
        )

    @property
    def names(self) -> list[str]:
        return [check_id for check_id, _ in self.started]

    async def _handle(self, event: CheckRequested, attempt: int) -> None:
        self.started.append((event.check_id, attempt))
        if self._act is not None:
            await self._act(event, attempt)
        await self.gate.wait()

    async def _exhaust(self, event: CheckRequested, reason: str, failure_kind: str, attempts: int) -> None:
        self.exhausted.append((event.check_id, reason, failure_kind, attempts))
        verdict = verdict_of(
            event, Verdict.INFRA_ERROR, stage="compile", message=reason, failure_kind=failure_kind
        )
        await self._bus.publish_terminal(verdict)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.consumer.run())
        try:
            yield
        finally:
            await self.consumer.drain(0)
            await task


async def _submit(bus: Bus, *check_ids: str, lane: Any = "bulk") -> None:
    for check_id in check_ids:
        request = sample_request(check_id=check_id, lane=lane)
        subject = subjects.check_requested(lane, request.run, check_id)
        await bus.publish(subject, request, msg_id=check_id)


async def _queue(bus: Bus, lane: str = "bulk") -> dict[str, Any]:
    info: dict[str, Any] = await bus.api(f"CONSUMER.INFO.CHECKS.compile-{lane}", {})
    return info


async def _until_empty(bus: Bus) -> None:
    async with asyncio.timeout(5):
        while (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"]:
            pass


async def _verdict(bus: Bus, check_id: str, generation: int = 0) -> EvalDone | None:
    subject = subjects.eval_done(CheckKey("default", check_id, generation))
    found = await bus.last_by_subject(subjects.EVALS, subject)
    return decode(found[1], EvalDone) if found else None


async def _dead_letters(bus: Bus) -> int:
    count: int = (await bus.api("STREAM.INFO.DEAD", {}))["state"]["messages"]
    return count


async def test_a_job_whose_worker_is_killed_is_delivered_again(nats_server: NatsServer) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await provision(bus, storage="embedded", ack_wait_s=1.0)
        await _submit(bus, "a")
        doomed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DOOMED, nats_server.url, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert doomed.stdout is not None
            assert await doomed.stdout.readline() == b"started\n"
        finally:
            doomed.kill()
            await doomed.communicate()
        worker = _Worker(bus)
        async with worker.running():
            await async_wait_until(lambda: worker.started, 10)
            assert worker.started == [("a", 2)]
            await _until_empty(bus)


async def test_a_job_is_acknowledged_only_when_its_handler_has_returned(bus: Bus) -> None:
    worker = _Worker(bus)
    worker.gate.clear()
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: worker.started)
        assert worker.consumer.busy == 1
        assert (await _queue(bus))["num_ack_pending"] == 1
        worker.gate.set()
        await _until_empty(bus)
        await async_wait_until(lambda: worker.consumer.busy == 0)


async def test_interactive_jobs_start_before_bulk_jobs(bus: Bus) -> None:
    worker = _Worker(bus)
    worker.gate.clear()
    await _submit(bus, "first")
    async with worker.running():
        await async_wait_until(lambda: worker.started)
        await _submit(bus, "b1", "b2", "b3")
        await _submit(bus, "i1", "i2", "i3", lane="interactive")
        worker.gate.set()
        await async_wait_until(lambda: len(worker.started) == 7)
    assert worker.names == ["first", "i1", "i2", "i3", "b1", "b2", "b3"]


async def test_a_worker_takes_no_more_than_it_has_slots_and_one_a_lane(bus: Bus) -> None:
    worker = _Worker(bus, slots=3)
    worker.gate.clear()
    await _submit(bus, *(f"b{number}" for number in range(10)))
    async with worker.running():
        await async_wait_until(lambda: len(worker.started) == 3)
        assert worker.consumer.busy == 3
        assert (await _queue(bus))["num_ack_pending"] <= 4
        worker.gate.set()
        await async_wait_until(lambda: len(worker.started) == 10)


async def test_a_retry_comes_back_after_its_delay(bus: Bus) -> None:
    times: list[float] = []

    async def once(event: CheckRequested, attempt: int) -> None:
        times.append(time.monotonic())
        if attempt == 1:
            raise Retry("busy", delay_s=0.4)

    worker = _Worker(bus, act=once)
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: len(times) == 2)
        await _until_empty(bus)
    assert worker.started == [("a", 1), ("a", 2)]
    assert times[1] - times[0] >= 0.4


async def test_a_job_that_keeps_failing_ends_in_an_infrastructure_verdict(bus: Bus) -> None:
    async def fail(event: CheckRequested, attempt: int) -> None:
        raise Retry("the GPU is gone", delay_s=0.01, failure_kind="gpu_lost")

    worker = _Worker(bus, act=fail)
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: worker.exhausted)
        await _until_empty(bus)
    assert [attempt for _, attempt in worker.started] == [1, 2, 3]
    assert worker.exhausted == [("a", "the GPU is gone", "gpu_lost", 3)]
    verdict = await _verdict(bus, "a")
    assert verdict is not None
    assert verdict.verdict is Verdict.INFRA_ERROR
    assert verdict.mask_sample


async def test_an_exception_nobody_foresaw_costs_one_attempt_and_does_not_show_its_text(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_FIRST_DELAY_S", 0.01)

    async def fail(event: CheckRequested, attempt: int) -> None:
        raise ValueError("a path on this machine")

    worker = _Worker(bus, act=fail)
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: worker.exhausted)
    assert worker.exhausted == [("a", "internal error (ValueError)", "internal_error", 3)]


async def test_a_job_that_lost_three_workers_is_given_up_without_a_start(bus: Bus) -> None:
    await _submit(bus, "a")
    raw = await bus.js.pull_subscribe_bind("compile-bulk", "CHECKS")
    for _ in range(3):
        (message,) = await raw.fetch(1, timeout=5)
        await message.nak()
    worker = _Worker(bus)
    async with worker.running():
        await async_wait_until(lambda: worker.exhausted)
        await _until_empty(bus)
    assert worker.started == []
    assert worker.exhausted[0][2:] == ("worker_lost", 3)


async def test_a_rejected_job_is_buried_and_answered(bus: Bus) -> None:
    async def reject(event: CheckRequested, attempt: int) -> None:
        raise Reject("no such kind: ü")

    worker = _Worker(bus, act=reject)
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: worker.exhausted)
        await _until_empty(bus)
    assert worker.exhausted == [("a", "no such kind: ü", "rejected", 1)]
    letter = await bus.js.get_msg("DEAD", subject="dead.compile.default.a", direct=True)
    assert decode(letter.data or b"", CheckRequested).check_id == "a"
    assert letter.headers is not None
    assert letter.headers["Keck-Reason"] == "no such kind: ?"
    assert letter.headers["Keck-Subject"] == "check.requested.bulk.default.a"


async def test_a_letter_is_no_larger_than_a_server_takes_by_default(bus: Bus) -> None:
    data = b"\xff" * ((1 << 20) - 100)
    await bus.store("check.requested.bulk.default.bad", data)
    async with _Worker(bus).running():
        await _until_empty(bus)
    letter = await bus.js.get_msg("DEAD", subject="dead.compile.default.bad", direct=True)
    assert letter.data is not None
    assert data.startswith(letter.data)
    headers = letter.headers or {}
    assert len(letter.data) + sum(map(len, (*headers, *headers.values()))) < (1 << 20) - 1_000
    assert headers["Keck-Size"] == str(len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\x00 no msgpack",
        b"\x80",
        sample_request().candidate.encode(),
        b"\x91" * 5_000,
        b"\x81\xa1v\xa1\xff",
    ],
    ids=["garbage", "empty map", "text", "nested", "no UTF-8"],
)
async def test_bytes_that_are_no_request_are_buried_and_answered(bus: Bus, data: bytes) -> None:
    await bus.store("check.requested.bulk.default.bad", data)
    await _submit(bus, "good")
    worker = _Worker(bus)
    async with worker.running():
        await async_wait_until(lambda: worker.names == ["good"])
        await _until_empty(bus)
    assert await _dead_letters(bus) == 1
    verdict = await _verdict(bus, "bad")
    assert verdict is not None
    assert (verdict.verdict, verdict.failure_kind) == (Verdict.INFRA_ERROR, "unreadable_message")


async def test_a_request_on_another_checks_subject_is_buried_and_decides_nothing(bus: Bus) -> None:
    await bus.publish("check.requested.bulk.default.victim", sample_request(check_id="forged"), msg_id="x")
    worker = _Worker(bus)
    async with worker.running():
        await _until_empty(bus)
    assert worker.started == []
    assert await _dead_letters(bus) == 1
    assert await _verdict(bus, "victim") is None
    assert await _verdict(bus, "forged") is None


async def test_a_worker_that_drains_hands_back_and_costs_no_attempt(bus: Bus) -> None:
    leaving, staying = _Worker(bus, slots=2), _Worker(bus, slots=4)
    leaving.gate.clear()
    await _submit(bus, "a", "b", "c")
    async with leaving.running():
        await async_wait_until(lambda: len(leaving.started) == 2)
        await leaving.consumer.drain(0)
        async with staying.running():
            await async_wait_until(lambda: len(staying.started) == 3)
            await _until_empty(bus)
    assert sorted(staying.started) == [("a", 1), ("b", 1), ("c", 1)]
    noted = await bus.api(f"STREAM.INFO.KV_{HANDED_BACK_BUCKET}", {})
    assert noted["state"]["messages"] >= 2


async def test_a_worker_that_drains_lets_its_job_finish(bus: Bus) -> None:
    worker = _Worker(bus)
    worker.gate.clear()
    await _submit(bus, "a", "b")
    async with worker.running():
        await async_wait_until(lambda: worker.started)
        draining = asyncio.create_task(worker.consumer.drain(10))
        asyncio.get_running_loop().call_later(0.05, worker.gate.set)
        await draining
    assert (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"] == 1
    assert worker.names == ["a"]


async def test_a_job_longer_than_the_servers_patience_is_not_delivered_twice(
    nats_server: NatsServer,
) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await provision(bus, storage="embedded", ack_wait_s=0.5)
        worker, other = _Worker(bus, beat_s=0.1), _Worker(bus, beat_s=0.1)
        worker.gate.clear()
        await _submit(bus, "a")
        async with worker.running():
            await async_wait_until(lambda: worker.started)
            async with other.running():
                with pytest.raises(TimeoutError):
                    await async_wait_until(lambda: other.started, 1.2)
            worker.gate.set()
            await _until_empty(bus)


async def test_an_idle_worker_is_served_at_once_after_a_restart_of_the_server(
    nats_server: NatsServer, bus: Bus
) -> None:
    worker = _Worker(bus)
    async with worker.running():
        await _submit(bus, "before")
        await async_wait_until(lambda: worker.names == ["before"])
        nats_server.restart()
        await async_wait_until(lambda: not bus.nc.is_connected)
        await async_wait_until(lambda: bus.nc.is_connected)
        await _submit(bus, "after")
        stored_at = time.monotonic()
        await async_wait_until(lambda: worker.names == ["before", "after"])
        assert time.monotonic() - stored_at < 1.0


async def test_a_deleted_consumer_is_an_error_and_not_silence(bus: Bus) -> None:
    worker = _Worker(bus)
    running = asyncio.create_task(worker.consumer.run())
    await _submit(bus, "a")
    await async_wait_until(lambda: worker.started)
    async with asyncio.timeout(5):
        while not (await _queue(bus))["num_waiting"]:
            pass
        await bus.api("CONSUMER.DELETE.CHECKS.compile-bulk", {})
        with pytest.raises(ConsumerGone, match="compile-bulk"):
            await running


async def test_a_cancelled_loop_hands_its_job_back(bus: Bus) -> None:
    cancelled, staying = _Worker(bus), _Worker(bus)
    cancelled.gate.clear()
    await _submit(bus, "a")
    running = asyncio.create_task(cancelled.consumer.run())
    await async_wait_until(lambda: cancelled.started)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with staying.running():
        await async_wait_until(lambda: staying.started == [("a", 1)])


async def test_a_redelivered_job_that_was_decided_is_just_acknowledged(bus: Bus) -> None:
    decided: list[bool] = []

    async def decide(event: CheckRequested, attempt: int) -> None:
        verdict = verdict_of(event, Verdict.FORMAT_ERROR, stage="format", message=f"attempt {attempt}")
        decided.append(await bus.publish_terminal(verdict))
        if attempt == 1:
            raise Retry("after the verdict was stored", delay_s=0.01)

    worker = _Worker(bus, act=decide)
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: decided)
        await _until_empty(bus)
    assert decided == [True]
    verdict = await _verdict(bus, "a")
    assert verdict is not None
    assert verdict.message == "attempt 1"


async def _cancel(bus: Bus, check_id: str, generation: int = 0) -> None:
    order = CheckCancel(check_id=check_id, generation=generation, reason="the step is over")
    await bus.nc.publish(subjects.cancel("default", check_id), encode(order))
    await bus.barrier()


async def test_a_cancelled_job_is_ended_before_its_verdict_is_stored(bus: Bus) -> None:
    cleaned: list[bool] = []

    async def clean_up_slowly(event: CheckRequested, attempt: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await bus.barrier()
            cleaned.append(await _verdict(bus, event.check_id) is None)

    worker = _Worker(bus, slots=2, act=clean_up_slowly)
    await _submit(bus, "a", "b")
    async with worker.running():
        await async_wait_until(lambda: len(worker.started) == 2)
        await _cancel(bus, "a", generation=1)
        await _cancel(bus, "unknown")
        await _cancel(bus, "a")
        await async_wait_until(lambda: worker.consumer.busy == 1)
        assert cleaned == [True]
        verdict = await _verdict(bus, "a")
        assert verdict is not None
        assert (verdict.verdict, verdict.message) == (Verdict.CANCELLED, "cancelled: the step is over")
        assert verdict.mask_sample
        assert verdict.hashes.candidate
        assert await _verdict(bus, "b") is None
    assert worker.exhausted == []


async def test_bytes_that_are_no_cancellation_end_nothing(bus: Bus) -> None:
    worker = _Worker(bus)
    worker.gate.clear()
    await _submit(bus, "a")
    async with worker.running():
        await async_wait_until(lambda: worker.started)
        await bus.nc.publish(subjects.cancel("default", "a"), b"\x80")
        await bus.barrier()
        assert worker.consumer.busy == 1
        worker.gate.set()
        await _until_empty(bus)


async def test_a_job_ends_at_its_deadline_whatever_it_does(bus: Bus) -> None:
    worker = _Worker(bus)
    worker.gate.clear()
    request = sample_request(check_id="late", deadline=time.time() + 0.5)
    await bus.publish(subjects.check_requested("bulk", "default", "late"), request, msg_id="late")
    async with worker.running():
        await async_wait_until(lambda: worker.started)
        await _until_empty(bus)
    verdict = await _verdict(bus, "late")
    assert verdict is not None
    assert (verdict.verdict, verdict.failure_kind) == (Verdict.DEADLINE_EXCEEDED, "deadline")
    assert time.time() >= request.deadline


async def test_a_job_whose_deadline_is_over_is_not_started(bus: Bus) -> None:
    worker = _Worker(bus)
    request = sample_request(check_id="late", deadline=time.time() - 1)
    await bus.publish(subjects.check_requested("bulk", "default", "late"), request, msg_id="late")
    async with worker.running():
        await _until_empty(bus)
    assert worker.started == []
    verdict = await _verdict(bus, "late")
    assert verdict is not None
    assert verdict.verdict is Verdict.DEADLINE_EXCEEDED


async def test_a_job_that_was_decided_while_it_waited_is_not_started(bus: Bus) -> None:
    worker = _Worker(bus)
    await _submit(bus, "a", "b")
    await bus.publish_terminal(
        verdict_of(sample_request(check_id="a"), Verdict.CANCELLED, stage="format", message="cancelled")
    )
    async with worker.running():
        await _until_empty(bus)
    assert worker.names == ["b"]


async def test_a_worker_that_is_held_off_takes_nothing_and_keeps_nothing(bus: Bus) -> None:
    worker = _Worker(bus, slots=1)
    worker.gate.clear()
    async with worker.running():
        await _submit(bus, "first")
        await async_wait_until(lambda: worker.started)
        worker.consumer.hold_off(True)
        await _submit(bus, "second")
        worker.gate.set()
        await async_wait_until(lambda: worker.consumer.busy == 0)
        other = _Worker(bus)
        async with other.running():  # which gets what the first may have had on its way, at no cost
            await async_wait_until(lambda: other.started == [("second", 1)])
        assert worker.names == ["first"]
        worker.consumer.hold_off(False)
        await _submit(bus, "third")
        await async_wait_until(lambda: worker.names == ["first", "third"])


async def test_a_message_on_its_way_to_a_worker_that_is_held_off_is_handed_back(bus: Bus) -> None:
    worker, other = _Worker(bus, slots=1), _Worker(bus)
    async with worker.running():
        await _submit(bus, "zero")  # taken: from now on a request for the next one is out
        await async_wait_until(lambda: worker.names == ["zero"] and worker.consumer.busy == 0)
        worker.consumer.hold_off(True)
        await _submit(bus, "a")
        async with other.running():
            await async_wait_until(lambda: other.started == [("a", 1)], 20)
        assert worker.names == ["zero"]
