"""Provisioning: everything is created, by any number of callers, and nothing is altered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from keck import subjects
from keck.bus import Bus
from keck.errors import Unavailable
from keck.streams import HANDED_BACK_BUCKET, ensure_target, provision
from keck.testing import NatsServer, sample_request


async def _config(bus: Bus, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await bus.api(f"STREAM.INFO.{stream}", {}))["config"]
    return config


async def _messages(bus: Bus, stream: str) -> int:
    count: int = (await bus.api(f"STREAM.INFO.{stream}", {}))["state"]["messages"]
    return count


async def _until_stored(bus: Bus, stream: str, count: int) -> None:
    async with asyncio.timeout(10):
        while await _messages(bus, stream) != count:
            pass


async def test_five_services_that_start_at_once_all_provision(nats_server: NatsServer) -> None:
    buses = [await Bus.connect(nats_server.url, name=f"service-{n}") for n in range(5)]
    await asyncio.gather(*(provision(bus, storage="embedded") for bus in buses))
    await asyncio.gather(*(ensure_target(bus, "cpu") for bus in buses))
    streams = await buses[0].api("STREAM.NAMES", {})
    assert set(streams["streams"]) == {
        "CHECKS", "BUILDS", "EVALS", "HISTORY", "DEAD", "ADVISORY",
        "OBJ_artifacts", "KV_builds", "KV_workers", f"KV_{HANDED_BACK_BUCKET}",
    }  # fmt: skip
    checks = await buses[0].api("CONSUMER.NAMES.CHECKS", {})
    builds = await buses[0].api("CONSUMER.NAMES.BUILDS", {})
    assert {"compile-interactive", "compile-bulk"} <= set(checks["consumers"])
    assert {"execute-cpu-interactive", "execute-cpu-bulk"} <= set(builds["consumers"])
    for bus in buses:
        await bus.close()


async def test_sizes_that_an_operator_chose_are_kept(bus: Bus) -> None:
    await bus.api("STREAM.UPDATE.CHECKS", {**await _config(bus, "CHECKS"), "max_msgs": 77})
    await provision(bus, storage="embedded")
    assert (await _config(bus, "CHECKS"))["max_msgs"] == 77


async def test_a_consumer_keeps_its_configuration(bus: Bus) -> None:
    await ensure_target(bus, "cpu", ack_wait_s=5)
    await ensure_target(bus, "cpu", ack_wait_s=30)
    info = await bus.api("CONSUMER.INFO.BUILDS.execute-cpu-bulk", {})
    assert info["config"]["ack_wait"] == 5_000_000_000


async def test_a_stream_of_another_kind_is_refused_with_what_differs(nats_server: NatsServer) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.api(
            "STREAM.CREATE.CHECKS",
            {"name": "CHECKS", "subjects": ["check.requested.>"], "retention": "limits", "storage": "file"},
        )
        with pytest.raises(Unavailable, match=r"CHECKS of another kind.*retention"):
            await provision(bus, storage="embedded")


async def test_a_server_too_small_for_the_profile_says_which_setting_to_change(
    nats_server: NatsServer,
) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        with pytest.raises(Unavailable, match="KECK_STORAGE=embedded"):
            await provision(bus, storage="production")


async def test_a_target_without_provisioned_streams_is_refused(nats_server: NatsServer) -> None:
    async with await Bus.connect(nats_server.url, name="test") as bus:
        with pytest.raises(Unavailable, match="execute-cpu-interactive"):
            await ensure_target(bus, "cpu")


async def test_history_keeps_what_the_queue_forgets(bus: Bus) -> None:
    async with asyncio.timeout(10):  # the server begins to copy a moment after provisioning
        while not any("JS_SRC" in name for name in (await bus.api("CONSUMER.NAMES.CHECKS", {}))["consumers"]):
            pass
    for number in range(10):
        await bus.publish(f"check.requested.bulk.default.{number}", sample_request(), msg_id=str(number))
    subscription = await bus.js.pull_subscribe_bind("compile-bulk", "CHECKS")
    for message in await subscription.fetch(10, timeout=5):
        await message.ack_sync()
    await _until_stored(bus, "HISTORY", 10)
    await _until_stored(bus, "CHECKS", 0)  # HISTORY's own acknowledgements come about a second later
    found = await bus.last_by_subject(subjects.HISTORY, "check.requested.bulk.default.3")
    assert found is not None


async def test_the_buckets_open_with_the_client_library_too(bus: Bus) -> None:
    builds = await bus.js.key_value(subjects.BUILDS_INDEX_BUCKET)
    await builds.put("key", b"1")
    await builds.put("key", b"2")
    assert (await builds.get("key")).value == b"2"
    assert await _messages(bus, "KV_builds") == 1
    await builds.delete("key")
    objects = await bus.js.object_store(subjects.ARTIFACTS_BUCKET)
    assert (await objects.status()).bucket == "artifacts"


async def test_a_terminated_message_leaves_an_advisory(bus: Bus) -> None:
    await bus.publish("check.requested.bulk.default.a", sample_request(), msg_id="a")
    subscription = await bus.js.pull_subscribe_bind("compile-bulk", "CHECKS")
    (message,) = await subscription.fetch(1, timeout=5)
    await message.term()
    await _until_stored(bus, "ADVISORY", 1)
