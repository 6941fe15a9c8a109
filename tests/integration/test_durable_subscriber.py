"""An orchestrator with nothing but nats-py: what it missed while it was away is there when it comes back, once."""

from __future__ import annotations

import msgspec
import nats
import pytest
from nats.js import JetStreamContext

from keck.bus import Bus
from keck.streams import provision
from keck.testing import NatsServer, sample_eval_done, sample_request

RUN = "trainer"


async def _subscribed(js: JetStreamContext) -> JetStreamContext.PullSubscription:
    """As the example does it, each time it starts."""
    return await js.pull_subscribe(f"eval.done.{RUN}.>", durable=RUN, stream="EVALS")


async def _read(url: str, *, expect: int, ack: bool = True) -> list[str]:
    """The ids of the verdicts that wait for it, read by a client that then goes away."""
    nc = await nats.connect(url)
    try:
        verdicts = await _subscribed(nc.jetstream())
        names = []
        for message in await verdicts.fetch(expect, timeout=5):
            names.append(msgspec.msgpack.decode(message.data)["check_id"])
            if ack:
                await message.ack_sync()
        return names
    finally:
        await nc.close()


async def _judge(bus: Bus, *names: str, run: str = RUN) -> None:
    for name in names:
        await bus.publish_terminal(sample_eval_done(sample_request(run=run, check_id=name)))


async def test_what_came_while_it_was_away_is_there_when_it_is_back(nats_server: NatsServer) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await provision(bus, storage="embedded")
        await _judge(bus, "before", "a")
        assert await _read(nats_server.url, expect=2) == ["before", "a"]
        await _judge(bus, "b", "c")
        await _judge(bus, "theirs", run="another")
        nats_server.restart()
        await _judge(bus, "d")
        assert await _read(nats_server.url, expect=3) == ["b", "c", "d"]
        with pytest.raises(TimeoutError):
            await _read(nats_server.url, expect=1)


async def test_what_it_did_not_acknowledge_comes_again(nats_server: NatsServer) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await provision(bus, storage="embedded")
        nc = await nats.connect(nats_server.url)
        try:
            config = nats.js.api.ConsumerConfig(ack_wait=0.5)
            await nc.jetstream().pull_subscribe(
                f"eval.done.{RUN}.>", durable=RUN, stream="EVALS", config=config
            )
            await _judge(bus, "a", "b")
            assert await _read(nats_server.url, expect=2, ack=False) == ["a", "b"]
            again: list[str] = []
            while len(again) < 2:  # after ack_wait
                again += await _read(nats_server.url, expect=2)
            assert sorted(again) == ["a", "b"]
        finally:
            await nc.close()
