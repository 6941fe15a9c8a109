"""Fixtures for all tests: a real nats-server of one's own, and a provisioned connection to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from keck import CheckRequested, EvalDone, Verdict
from keck.adapters.scorer import _SCORERS
from keck.bus import Bus
from keck.embedded import gpu_names
from keck.messages import verdict_of
from keck.played import PlayedSystem
from keck.streams import provision
from keck.testing import NatsServer, sample_eval_done


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


@pytest.fixture(scope="session")
def _played_system() -> Iterator[PlayedSystem]:
    with PlayedSystem() as system:
        yield system
        for scorer in _SCORERS.values():  # of the process, and connected to what is about to end
            scorer.close()


@pytest.fixture
def played(_played_system: PlayedSystem) -> PlayedSystem:
    """A system whose judge is played by the candidates: each says in a line ``# verdict:`` what it wants."""
    _played_system.answer = _as_the_candidate_says
    _played_system.requests.clear()
    return _played_system


def _as_the_candidate_says(request: CheckRequested) -> EvalDone | None:
    """The verdict; ``nothing`` is never answered."""
    wanted = re.search(r"# verdict: (\w+)", request.candidate)
    name = wanted[1] if wanted else "passed"
    if name == "nothing":
        return None
    if name == "passed":
        return sample_eval_done(request)
    return verdict_of(request, Verdict(name), stage="correctness", message=f"because {name}", log="log")


# How long an example takes says something of the machine, not of the code.
settings.register_profile("keck", deadline=None)
settings.load_profile("keck")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if gpu_names():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much a machine without a GPU left untested."""
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "gpu" in getattr(report, "keywords", ())
    ]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests need a GPU and were skipped: there is none here")
