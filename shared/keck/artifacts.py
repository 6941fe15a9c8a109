"""Shared objects and large sources in an Object Store bucket, named by their content.

The wire format is that of ADR-20, so that any NATS client reads and writes the same objects; the library's own
``ObjectStore`` is not used, because its ``get`` stalls on flow control and hangs for ever on a lost chunk.
Names are sha256 digests: an object is never overwritten with other bytes, a second put is nearly free, and
every reader verifies what it read.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from nats.js.errors import APIError

from keck import subjects
from keck.bus import Bus, is_direct_miss
from keck.errors import ArtifactCorrupt, ArtifactMissing, BadRequest, QueueFull, Unavailable
from keck.hashing import sha256_hex
from keck.logs import logger
from keck.streams import ARTIFACT_MAX_AGE_S

__all__ = ["MAX_ARTIFACT_BYTES", "Artifacts"]

MAX_ARTIFACT_BYTES: Final = 64 << 20
"""A chain of chunks larger than this may be dropped by a replicated stream."""
_CHUNK_BYTES: Final = 512 << 10
_CHUNKS_IN_FLIGHT: Final = 8
_CHUNK_TIMEOUT_S: Final = 15.0
_PUT_ATTEMPTS: Final = 3
_HASH_IN_THREAD_BYTES: Final = 4 << 20
_FILL_LIMIT: Final = 0.8
_EVICT_SHARE: Final = 0.3
_CHECK_FILL_EVERY_S: Final = 30.0
_FIRST_SEQUENCE: Final = "keck-first-sequence"


class _Entry(msgspec.Struct, frozen=True):
    """What this reader needs of an object's metadata message."""

    nuid: str
    chunks: int
    deleted: bool = False
    metadata: dict[str, str] | None = None
    stored_at: float = 0.0
    """Unix seconds; the server's, not the message's."""


class Artifacts:
    """Content-addressed objects of one bucket."""

    def __init__(self, bus: Bus, *, bucket: str = subjects.ARTIFACTS_BUCKET) -> None:
        self._bus = bus
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"
        self._fill_checked_at = 0.0

    async def put(self, data: bytes, *, anew: bool = False) -> str:
        """Store bytes and return their name; already there, and not soon to expire, nothing is sent.

        Args:
            data: what to store.
            anew: send it even so: what is there was found to be damaged.

        Raises:
            BadRequest: larger than `MAX_ARTIFACT_BYTES`.
            QueueFull: the bucket is full, even after its oldest objects were dropped.
            Unavailable: NATS does not answer.
        """
        if len(data) > MAX_ARTIFACT_BYTES:
            raise BadRequest(f"an artifact has {len(data)} bytes; at most {MAX_ARTIFACT_BYTES} are taken")
        name = await _digest(data)
        if not anew and await self._is_fresh(name):
            return name
        for attempt in range(1, _PUT_ATTEMPTS + 1):
            try:
                await self._write(name, data)
                break
            except Unavailable:
                if attempt == _PUT_ATTEMPTS:
                    raise
            except QueueFull:
                if attempt == _PUT_ATTEMPTS:
                    raise
                await self._evict()
        await self._keep_room()
        return name

    async def get(self, name: str) -> bytes:
        """The bytes of an object.

        Raises:
            ArtifactMissing: no such object, or parts of it are gone.
            ArtifactCorrupt: the bytes do not hash to the name.
            Unavailable: NATS does not answer.
        """
        data = b"".join([chunk async for chunk in self._chunks(name)])
        if await _digest(data) != name:
            raise ArtifactCorrupt(f"artifact {name} does not hash to its name")
        return data

    async def fetch(self, name: str, path: Path) -> None:
        """Write an object to `path`, which appears whole and verified or not at all.

        Raises:
            ArtifactMissing, ArtifactCorrupt, Unavailable: as for `get`.
        """
        part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        hasher = hashlib.sha256()
        try:
            with part.open("wb") as file:
                async for chunk in self._chunks(name):
                    await asyncio.to_thread(_append, file.write, hasher.update, chunk)
            if hasher.hexdigest() != name:
                raise ArtifactCorrupt(f"artifact {name} does not hash to its name")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    async def has(self, name: str) -> bool:
        """Whether the object is there, as far as its entry says.

        Raises:
            Unavailable: NATS does not answer.
        """
        return await self._entry(name) is not None

    async def _entry(self, name: str) -> _Entry | None:
        message = await self._bus.request(
            f"$JS.API.DIRECT.GET.{self._stream}.{self._entry_subject(name)}", b""
        )
        if is_direct_miss(message):
            return None
        try:
            entry = _decode_entry(message.data)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            logger().warning("artifact_entry_unreadable", artifact=name, error=str(error))
            return None
        stored_at = _server_time((message.headers or {}).get("Nats-Time-Stamp", ""))
        return None if entry.deleted else msgspec.structs.replace(entry, stored_at=stored_at)

    def _entry_subject(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _is_fresh(self, name: str) -> bool:
        """Whether a stored object is complete and young enough to be relied on until its check is judged."""
        entry = await self._entry(name)
        if entry is None or time.time() - entry.stored_at > ARTIFACT_MAX_AGE_S / 2:
            return False
        if entry.chunks == 0:
            return True
        # An eviction may have taken the first chunks of an object whose entry is still there.
        first = (entry.metadata or {}).get(_FIRST_SEQUENCE, "")
        state, _ = await self._state()
        return first.isdecimal() and int(first) >= int(state["first_seq"])

    async def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = await self._bus.api(f"STREAM.INFO.{self._stream}", {})
        if "error" in answer:
            raise Unavailable(f"no bucket {self._bucket}: {answer['error'].get('description')}")
        return answer["state"], answer["config"]

    async def _write(self, name: str, data: bytes) -> None:
        """Chunks, then the entry that makes the object exist.

        Each attempt has a chunk subject of its own: one abandoned half way is never seen, and its chunks age
        out. Sending a single chunk again would store it after its successors.
        """
        nuid = secrets.token_hex(11)
        sequences = await self._send_chunks(f"$O.{self._bucket}.C.{nuid}", memoryview(data))
        entry = {
            "name": name,
            "bucket": self._bucket,
            "nuid": nuid,
            "size": len(data),
            "chunks": len(sequences),
            "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(name)).decode(),
            "options": {"max_chunk_size": _CHUNK_BYTES},
            "metadata": {_FIRST_SEQUENCE: str(sequences[0])} if sequences else {},
            "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "deleted": False,
        }
        await self._bus.store(
            self._entry_subject(name), json.dumps(entry).encode(), headers={"Nats-Rollup": "sub"}
        )

    async def _send_chunks(self, subject: str, data: memoryview) -> list[int]:
        window = asyncio.Semaphore(_CHUNKS_IN_FLIGHT)
        sends: list[asyncio.Task[int]] = []
        try:
            for offset in range(0, len(data), _CHUNK_BYTES):
                await window.acquire()
                if any(send.done() and send.exception() for send in sends):
                    break
                chunk = bytes(data[offset : offset + _CHUNK_BYTES])
                sends.append(asyncio.create_task(self._send(subject, chunk, window)))
                await asyncio.sleep(0)  # on the wire before the next one: their order is the content
            return await asyncio.gather(*sends)
        finally:
            for send in sends:
                send.cancel()
            await asyncio.gather(*sends, return_exceptions=True)

    async def _send(self, subject: str, chunk: bytes, window: asyncio.Semaphore) -> int:
        try:
            ack = await self._bus.store(subject, chunk, once=True, timeout_s=_CHUNK_TIMEOUT_S)
            return ack.seq
        finally:
            window.release()

    async def _chunks(self, name: str) -> AsyncIterator[bytes]:
        entry = await self._entry(name)
        if entry is None:
            raise ArtifactMissing(f"artifact {name} is not in the store")
        left, sequence = entry.chunks, 1
        while left:
            got = 0
            chunks = f"$O.{self._bucket}.C.{entry.nuid}"
            query = {"batch": left, "seq": sequence, "next_by_subj": chunks}
            async for message in self._bus.batch(self._stream, query):
                sequence = int((message.headers or {})["Nats-Sequence"]) + 1
                got += 1
                yield message.data
            if not got:
                raise ArtifactMissing(f"artifact {name}: {left} of {entry.chunks} chunks are gone")
            left -= got

    async def _keep_room(self) -> None:
        if time.monotonic() - self._fill_checked_at < _CHECK_FILL_EVERY_S:
            return
        self._fill_checked_at = time.monotonic()
        state, config = await self._state()
        if 0 < config["max_bytes"] * _FILL_LIMIT < state["bytes"]:
            with contextlib.suppress(APIError):
                await self._evict()

    async def _evict(self) -> None:
        """Drop the oldest share of the bucket: what is still needed of it is built once more."""
        state, _ = await self._state()
        first, last = int(state["first_seq"]), int(state["last_seq"])
        below = first + int((last - first + 1) * _EVICT_SHARE) + 1
        await self._bus.js.purge_stream(self._stream, seq=below)
        logger().warning("artifacts_evicted", bucket=self._bucket, below_sequence=below)


async def _digest(data: bytes) -> str:
    if len(data) < _HASH_IN_THREAD_BYTES:
        return sha256_hex(data)
    return await asyncio.to_thread(sha256_hex, data)


_decode_entry: Final = msgspec.json.Decoder(_Entry).decode


def _append(write: Any, update: Any, chunk: bytes) -> None:
    write(chunk)
    update(chunk)


def _server_time(text: str) -> float:
    """Unix seconds of the server's RFC 3339 time stamp, whose nanoseconds Python does not read."""
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0
