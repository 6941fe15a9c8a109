"""Fixtures for all tests: a real nats-server of one's own, and a provisioned connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from keck.bus import Bus
from keck.streams import provision
from keck.testing import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A private server: own port, own store, own log."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a server that has all streams of the embedded profile."""
    async with await Bus.connect(nats_server.url, name="test") as connected:
        await provision(connected, storage="embedded")
        yield connected
