"""A build whose artifacts are lost goes back to the compilers with all that its request said, and only once."""

from __future__ import annotations

import msgspec
import pytest

from keck import subjects
from keck.bus import Bus
from keck.errors import Retry
from keck.messages import CheckRequested, CompileDone, Source, decode
from keck.subjects import CheckKey
from keck.testing import sample_compile_done, sample_request
from keck_executor.rebuilding import BuildLost, Rebuilding

LOST = BuildLost("artifact x is not in the store")
SENT = sample_request(check_id="a", run="train", generation=2, lane="interactive")


async def _queued(bus: Bus) -> CheckRequested | None:
    found = await bus.last_by_subject(subjects.CHECKS, subjects.check_requested("interactive", "train", "a"))
    return decode(found[1], CheckRequested) if found else None


def _by_hash(build: CompileDone) -> CompileDone:
    """As where the sources are too large to travel with the build."""
    source: Source = msgspec.structs.replace(build.candidate, text=None)
    return msgspec.structs.replace(build, candidate=source)


async def test_the_request_is_the_same_but_for_being_sent_back(bus: Bus) -> None:
    await Rebuilding(bus).send_back(sample_compile_done(SENT), LOST)
    assert await _queued(bus) == msgspec.structs.replace(SENT, rebuilds=1)


async def test_a_delivery_that_comes_twice_sends_back_once(bus: Bus) -> None:
    for _ in range(2):
        await Rebuilding(bus).send_back(sample_compile_done(SENT), LOST)
    assert (await bus.api("STREAM.INFO.CHECKS", {}))["state"]["messages"] == 1


async def test_the_first_request_does_not_stand_in_the_way(bus: Bus) -> None:
    """Msg-Ids of ten minutes are remembered: sent back under the old one it would be dropped."""
    key = CheckKey("train", "a", 2)
    subject = subjects.check_requested("interactive", "train", "a")
    await bus.publish(subject, SENT, msg_id=subjects.request_id(key))
    await Rebuilding(bus).send_back(sample_compile_done(SENT), LOST)
    sent_back = await _queued(bus)
    assert sent_back is not None
    assert sent_back.rebuilds == 1


async def test_large_sources_are_taken_from_the_first_request(bus: Bus) -> None:
    first = msgspec.structs.replace(SENT, generation=0)
    subject = subjects.check_requested("interactive", "train", "a")
    sequence = await bus.publish(subject, first, msg_id="first")
    found = None
    while found is None:  # HISTORY copies it a moment later
        found = await bus.last_by_subject(subjects.HISTORY, subject)
    await bus.delete_message(subjects.CHECKS, sequence)
    await Rebuilding(bus).send_back(_by_hash(sample_compile_done(SENT)), LOST)
    assert await _queued(bus) == msgspec.structs.replace(SENT, rebuilds=1)


async def test_what_cannot_be_sent_back_is_retried(bus: Bus) -> None:
    for build in (
        sample_compile_done(SENT, rebuilds=1),
        _by_hash(sample_compile_done(SENT)),  # and its request is not known
    ):
        with pytest.raises(Retry) as raised:
            await Rebuilding(bus).send_back(build, LOST)
        assert raised.value.failure_kind == "artifact_missing"
    assert await _queued(bus) is None
