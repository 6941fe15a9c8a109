"""The SDK over HTTP speaks to this gateway."""

from __future__ import annotations

import pytest

from keck import Client
from keck.errors import BadRequest, NotFound, Unavailable
from keck.messages import CheckProgress, EvalDone
from keck.subjects import CheckKey


async def test_the_client_submits_waits_follows_and_asks(gateway, worker):
    async with Client(gateway.url) as client:
        verdict = await client.check("class ModelNew: ...", "class Model: ...", options={"profile": True})
        assert (verdict.verdict, verdict.profile is None) == ("passed", False)
        assert [executor.target for executor in await client.executors()] == ["cpu"]
        key = await client.submit("#!wrong_result", "r", check_id="mine", run="r1")
        assert key == CheckKey("r1", "mine", 0)
        assert (await client.result(key)).verdict == "wrong_result"
        events = [event async for event in client.events(key)]
        assert [type(event) for event in events] == [EvalDone]


async def test_the_client_reads_places_in_the_queue_as_progress(start_gateway, make_worker):
    gateway = await start_gateway()
    async with Client(gateway.url) as client:
        key = await client.submit("class ModelNew: ...", "r")
        events = []
        async for event in client.events(key):
            if not events:
                await make_worker()
            events.append(event)
    assert next(event.stage for event in events if isinstance(event, CheckProgress)) == "queued"
    assert isinstance(events[-1], EvalDone)


async def test_problems_become_the_clients_own_errors(start_gateway):
    gateway = await start_gateway()
    async with Client(gateway.url) as client:
        with pytest.raises(Unavailable, match="no live executor"):
            await client.check("c", "r")
        await client.submit("c", "r", check_id="mine")
        with pytest.raises(BadRequest, match="in use"):
            await client.submit("other", "r", check_id="mine")
        with pytest.raises(NotFound):
            await client.result(CheckKey("default", "never", 0))
