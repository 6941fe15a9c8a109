"""Server-sent events: a check followed from the queue to its verdict."""

from __future__ import annotations

import asyncio

import msgspec

from keck import subjects
from keck.messages import CheckProgress, EvalDone
from keck.testing import async_wait_until


class Follower:
    """Reads one event stream in the background."""

    def __init__(self, gateway, path: str) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.comments: list[str] = []
        self.task = asyncio.create_task(self._read(gateway, path))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def _read(self, gateway, path: str) -> None:
        async with gateway.http.stream("GET", path) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in response.aiter_lines():
                if line.startswith(":"):
                    self.comments.append(line)
                elif line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((name, line.removeprefix("data: ").encode()))


async def test_a_check_is_followed_from_its_place_in_the_queue_to_its_verdict(start_gateway, make_worker):
    gateway = await start_gateway()
    for name in ("first", "second"):
        await gateway.post(check_id=name)
    follower = Follower(gateway, "/v1/checks/second/events")
    await async_wait_until(lambda: follower.names == ["queued"])
    place = msgspec.json.decode(follower.events[0][1])
    assert (place["stage"], place["queue_position"]) == ("queued", 1)
    # A client that knows nothing but progress can read it as that.
    assert msgspec.json.decode(follower.events[0][1], type=CheckProgress).check_id == "second"

    await make_worker()
    await follower.task
    assert follower.names == ["queued", "progress", "verdict"]
    assert msgspec.json.decode(follower.events[1][1], type=CheckProgress).stage == "compile"
    assert msgspec.json.decode(follower.events[2][1], type=EvalDone).verdict == "passed"


async def test_a_change_of_place_is_told_and_silence_is_filled(start_gateway, bus, monkeypatch):
    monkeypatch.setattr("keck_gateway.event_stream._POSITION_EVERY_S", 0.05)
    monkeypatch.setattr("keck_gateway.event_stream._KEEP_ALIVE_S", 0.2)
    gateway = await start_gateway()
    for name in ("first", "second", "third"):
        await gateway.post(check_id=name)
    follower = Follower(gateway, "/v1/checks/third/events")
    await async_wait_until(lambda: follower.names == ["queued"])
    pull = await bus.js.pull_subscribe_bind("compile-bulk", stream=subjects.CHECKS)
    await pull.fetch(2)
    await async_wait_until(lambda: follower.names == ["queued", "queued"])
    assert [msgspec.json.decode(data)["queue_position"] for _, data in follower.events] == [2, 0]
    await async_wait_until(lambda: len(follower.comments) >= 2)
    follower.task.cancel()


async def test_a_check_that_is_done_has_its_verdict_as_the_only_event(gateway):
    await gateway.post("/v1/checks?wait=10", check_id="done", run="train-7")
    follower = Follower(gateway, "/v1/checks/done/events?run=train-7")
    await follower.task
    assert follower.names == ["verdict"]


async def test_many_follow_one_check_and_leave_without_a_trace(start_gateway, worker, bus):
    gateway = await start_gateway(max_waiting=3)
    await gateway.post(candidate="#!hold", check_id="held")
    followers = [Follower(gateway, "/v1/checks/held/events") for _ in range(3)]
    await async_wait_until(lambda: all(follower.comments or follower.events for follower in followers))
    assert (await gateway.http.get("/v1/checks/held/events")).status_code == 429
    followers[0].task.cancel()
    replacement = Follower(gateway, "/v1/checks/held/events")
    async with asyncio.timeout(5):
        while not replacement.comments + replacement.names:
            if replacement.task.done() and replacement.task.exception():
                replacement = Follower(gateway, "/v1/checks/held/events")
            await asyncio.sleep(0.01)
    worker.release()
    await asyncio.gather(replacement.task, *(follower.task for follower in followers[1:]))
    assert all(follower.names[-1] == "verdict" for follower in [*followers[1:], replacement])


async def test_a_stream_ends_without_a_verdict_when_the_gateway_stops(gateway, worker):
    await gateway.post(candidate="#!hold", check_id="held")
    follower = Follower(gateway, "/v1/checks/held/events")
    await async_wait_until(lambda: follower.comments or follower.events)
    gateway.stop.set()
    await follower.task
    assert "verdict" not in follower.names
    assert "shutting down" in follower.comments[-1]
