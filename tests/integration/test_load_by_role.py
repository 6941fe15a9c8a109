"""What each role may know of a system's load, on a server with roles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keck import Client, Settings, subjects
from keck.bus import Bus
from keck.nats_config import new_passwords
from keck.streams import provision
from keck.testing import NatsServer, sample_request

PASSWORDS = new_passwords(*subjects.ROLES)


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer(passwords=PASSWORDS) as running:
        yield running


@pytest.mark.parametrize(
    ("role", "sees_queues"), [("gateway", True), ("observer", True), ("orchestrator", False), ("admin", True)]
)
async def test_a_role_sees_queues_or_is_told_that_it_may_not(
    server: NatsServer, role: str, sees_queues: bool
) -> None:
    async with await Bus.connect(
        server.url, name="t", user="gateway", password=PASSWORDS["gateway"]
    ) as gateway:
        await provision(gateway, storage="embedded")
        request = sample_request()
        subject = subjects.check_requested(request.lane, request.run, request.check_id)
        await gateway.publish(subject, request, msg_id="one")
        settings = Settings(nats_user=role, nats_password=PASSWORDS[role])
        async with Client(server.url, settings=settings) as client:
            load = await client.load()
    if not sees_queues:
        assert (load.queues, load.verdicts) == (None, None)
        return
    assert load.verdicts == 0
    assert load.queues is not None
    assert {(queue.stage, queue.lane): queue.waiting for queue in load.queues} == {
        ("compile", "interactive"): 0,
        ("compile", "bulk"): 1,
    }
