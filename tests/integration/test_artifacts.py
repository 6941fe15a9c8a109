"""Objects by content: whole and verified, or an error that says which."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from keck.artifacts import MAX_ARTIFACT_BYTES, Artifacts
from keck.bus import Bus
from keck.errors import ArtifactCorrupt, ArtifactMissing, BadRequest
from keck.hashing import sha256_hex
from keck.testing import NatsServer, sample_request

_CHUNK = 512 << 10


def _bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def _messages(bus: Bus) -> int:
    count: int = (await bus.api("STREAM.INFO.OBJ_artifacts", {}))["state"]["messages"]
    return count


@pytest.mark.parametrize("size", [0, 1, _CHUNK, _CHUNK + 1, 20 * _CHUNK + 7])
async def test_what_is_put_is_what_is_read(bus: Bus, tmp_path: Path, size: int) -> None:
    artifacts, data = Artifacts(bus), _bytes(size)
    name = await artifacts.put(data)
    assert name == sha256_hex(data)
    assert await artifacts.get(name) == data
    await artifacts.fetch(name, tmp_path / "object")
    assert (tmp_path / "object").read_bytes() == data


async def test_a_second_put_sends_nothing(bus: Bus) -> None:
    artifacts, data = Artifacts(bus), _bytes(_CHUNK * 2)
    await artifacts.put(data)
    stored = await _messages(bus)
    await artifacts.put(data)
    assert await _messages(bus) == stored


async def test_the_client_library_reads_ours_and_we_read_its(bus: Bus) -> None:
    artifacts, ours, its = Artifacts(bus), _bytes(_CHUNK + 5, 1), _bytes(300_000, 2)
    library = await bus.js.object_store("artifacts")
    name = await artifacts.put(ours)
    result = await library.get(name)
    assert result.data == ours
    await library.put(sha256_hex(its), its)
    assert await artifacts.get(sha256_hex(its)) == its


async def test_an_unknown_name_is_missing(bus: Bus, tmp_path: Path) -> None:
    artifacts = Artifacts(bus)
    with pytest.raises(ArtifactMissing):
        await artifacts.get("0" * 64)
    with pytest.raises(ArtifactMissing):
        await artifacts.fetch("0" * 64, tmp_path / "object")
    assert not await artifacts.has("0" * 64)


async def test_bytes_that_do_not_match_their_name_are_corrupt_and_leave_no_file(
    bus: Bus, tmp_path: Path
) -> None:
    library = await bus.js.object_store("artifacts")
    name = sha256_hex(b"what it should be")
    await library.put(name, b"what it is")
    with pytest.raises(ArtifactCorrupt):
        await Artifacts(bus).get(name)
    with pytest.raises(ArtifactCorrupt):
        await Artifacts(bus).fetch(name, tmp_path / "object")
    assert os.listdir(tmp_path) == ["nats"]  # the server's own folder, and no part of an object


async def test_an_object_that_lost_a_chunk_is_missing_and_not_waited_for(bus: Bus, tmp_path: Path) -> None:
    artifacts = Artifacts(bus)
    name = await artifacts.put(_bytes(3 * _CHUNK))
    await bus.js.delete_msg("OBJ_artifacts", 2)
    with pytest.raises(ArtifactMissing, match="1 of 3 chunks"):
        await artifacts.fetch(name, tmp_path / "object")


async def test_an_object_whose_chunks_were_evicted_is_put_again(bus: Bus) -> None:
    artifacts, data = Artifacts(bus), _bytes(3 * _CHUNK)
    name = await artifacts.put(data)
    await bus.js.purge_stream("OBJ_artifacts", seq=2)
    with pytest.raises(ArtifactMissing):
        await artifacts.get(name)
    await artifacts.put(data)
    assert await artifacts.get(name) == data


async def test_a_full_bucket_drops_its_oldest_objects(bus: Bus) -> None:
    config = (await bus.api("STREAM.INFO.OBJ_artifacts", {}))["config"]
    await bus.api("STREAM.UPDATE.OBJ_artifacts", {**config, "max_bytes": 4 << 20})
    artifacts = Artifacts(bus)
    objects = [_bytes(_CHUNK + 1, seed) for seed in range(12)]
    names = [await artifacts.put(data) for data in objects]
    assert await artifacts.get(names[-1]) == objects[-1]
    with pytest.raises(ArtifactMissing):
        await artifacts.get(names[0])
    await artifacts.put(objects[0])
    assert await artifacts.get(names[0]) == objects[0]


async def test_an_object_over_the_limit_is_refused(bus: Bus) -> None:
    with pytest.raises(BadRequest, match=str(MAX_ARTIFACT_BYTES)):
        await Artifacts(bus).put(bytes(MAX_ARTIFACT_BYTES + 1))


async def test_objects_survive_a_restart_of_the_server(nats_server: NatsServer, bus: Bus) -> None:
    artifacts, data = Artifacts(bus), sample_request().candidate.encode()
    name = await artifacts.put(data)
    nats_server.restart()
    assert await artifacts.get(name) == data
