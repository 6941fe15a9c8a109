"""Streams, buckets and consumers: one table, created where missing and never altered.

Work queues refuse what they cannot hold (back-pressure), facts drop what is oldest. Every byte limit is
reserved by the server when a stream is created, which is why there are two profiles. An existing stream keeps
the sizes its operator gave it; one whose *kind* differs is refused, because a queue that is no queue loses
work without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from keck import subjects
from keck.bus import Bus
from keck.errors import NotPermitted, Unavailable
from keck.logs import logger

__all__ = [
    "ACK_WAIT_S",
    "ADVISORY",
    "ARTIFACT_MAX_AGE_S",
    "HANDED_BACK_BUCKET",
    "MAX_ATTEMPTS",
    "MAX_DELIVER",
    "UNDELIVERED_CONSUMER",
    "ensure_target",
    "provision",
    "stream_configs",
]

MAX_ATTEMPTS: Final = 3
"""Times a message is started before its check ends in an infrastructure verdict."""
MAX_DELIVER: Final = 20
"""Backstop on the server: above it a message would lie in the queue unseen."""
ACK_WAIT_S: Final = 30.0
"""A worker that dies gives its messages back after this long; beats every 10 s survive two lost ones."""
ADVISORY: Final = "ADVISORY"
"""What the server says of messages that ran out of deliveries or were terminated."""
UNDELIVERED_CONSUMER: Final = "undelivered"
"""Durable consumer of ADVISORY, of the gateways."""
HANDED_BACK_BUCKET: Final = "handed_back"
"""Key-value: deliveries that ended in a worker's shutdown and count as no attempt."""

_MAX_DELIVERIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"
_MIB = 1 << 20
_GIB = 1 << 30
_DAY_S = 86_400.0
_NS = 1_000_000_000
ARTIFACT_MAX_AGE_S: Final = 8 * _DAY_S
"""Longer than HISTORY keeps builds, so that a replayed build finds its artifacts."""


class _Size(NamedTuple):
    """What one stream may hold: `max_bytes`, messages (-1: any number), age in seconds (0: for ever)."""

    max_bytes: int
    max_msgs: int = -1
    max_age_s: float = 0


# Age 0 on the queues: expiry there would lose work without a trace; events carry a deadline instead.
_SIZES: Final[Mapping[str, Mapping[str, _Size]]] = {
    "embedded": {
        subjects.CHECKS: _Size(256 * _MIB, 50_000),
        subjects.BUILDS: _Size(256 * _MIB, 20_000),
        subjects.EVALS: _Size(384 * _MIB, max_age_s=30 * _DAY_S),
        subjects.HISTORY: _Size(256 * _MIB, max_age_s=7 * _DAY_S),
        subjects.DEAD: _Size(32 * _MIB, max_age_s=30 * _DAY_S),
        ADVISORY: _Size(16 * _MIB, max_age_s=7 * _DAY_S),
        subjects.ARTIFACTS_BUCKET: _Size(768 * _MIB, max_age_s=ARTIFACT_MAX_AGE_S),
        subjects.BUILDS_INDEX_BUCKET: _Size(32 * _MIB, max_age_s=ARTIFACT_MAX_AGE_S),
        subjects.WORKERS_BUCKET: _Size(16 * _MIB, max_age_s=60),
        HANDED_BACK_BUCKET: _Size(8 * _MIB, max_age_s=_DAY_S),
    },
    "production": {
        subjects.CHECKS: _Size(4 * _GIB, 50_000),
        subjects.BUILDS: _Size(2 * _GIB, 20_000),
        subjects.EVALS: _Size(100 * _GIB, max_age_s=30 * _DAY_S),
        subjects.HISTORY: _Size(50 * _GIB, max_age_s=7 * _DAY_S),
        subjects.DEAD: _Size(2 * _GIB, max_age_s=30 * _DAY_S),
        ADVISORY: _Size(256 * _MIB, max_age_s=7 * _DAY_S),
        subjects.ARTIFACTS_BUCKET: _Size(200 * _GIB, max_age_s=ARTIFACT_MAX_AGE_S),
        subjects.BUILDS_INDEX_BUCKET: _Size(_GIB, max_age_s=ARTIFACT_MAX_AGE_S),
        subjects.WORKERS_BUCKET: _Size(64 * _MIB, max_age_s=60),
        HANDED_BACK_BUCKET: _Size(64 * _MIB, max_age_s=_DAY_S),
    },
}

_KIND = ("subjects", "retention", "discard", "allow_direct", "republish", "sources", "max_msgs_per_subject")
"""Fields that decide what a stream *is*; the others are sizes an operator may have changed."""
_STREAM_EXISTS_OTHERWISE = 10058
_CONSUMER_EXISTS_OTHERWISE = (10148, 10149)
_STORAGE_EXCEEDED = 10047


async def provision(bus: Bus, *, storage: str, ack_wait_s: float = ACK_WAIT_S) -> None:
    """Create what is missing: all streams and buckets, the compilers' consumers and the gateways'. Safe at any time.

    On a server with roles only the gateway may; for others this does nothing, and what they pull from appears when
    a gateway starts.

    Raises:
        Unavailable: the server refuses, or has a stream of this name that is of another kind.
    """
    configs = stream_configs(storage)
    try:
        await _create_stream(bus, configs[0])
    except NotPermitted:
        logger().info("provisioned_by_gateway", what="streams")
        return
    for config in configs[1:]:
        await _create_stream(bus, config)
    await _create_consumer(
        bus,
        ADVISORY,
        name=UNDELIVERED_CONSUMER,
        filter_subject=_MAX_DELIVERIES,
        ack_wait_s=ack_wait_s,
        max_ack_pending=100,
        max_deliver=-1,
    )
    for lane in subjects.LANES:
        await _create_consumer(
            bus,
            subjects.CHECKS,
            name=subjects.compile_consumer(lane),
            filter_subject=f"check.requested.{lane}.>",
            ack_wait_s=ack_wait_s,
            max_ack_pending=2_000,
        )


async def ensure_target(bus: Bus, target: str, *, ack_wait_s: float = ACK_WAIT_S) -> None:
    """Create the consumers of the executors of one target where they are missing.

    On a server with roles only the gateway may, and does when it hears the first heartbeat of such an executor.

    Raises:
        Unavailable: the server refuses; without `provision` there is no stream to consume.
    """
    try:
        for lane in subjects.LANES:
            await _create_consumer(
                bus,
                subjects.BUILDS,
                name=subjects.execute_consumer(target, lane),
                filter_subject=f"compile.done.{target}.{lane}.>",
                ack_wait_s=ack_wait_s,
                max_ack_pending=500,
            )
    except NotPermitted:
        logger().info("provisioned_by_gateway", what=f"consumers of {target}")


def stream_configs(storage: str) -> list[dict[str, Any]]:
    """Every stream as the JetStream API wants it, in order of creation.

    Raises:
        ValueError: no profile of this name.
    """
    if storage not in _SIZES:
        raise ValueError(f"storage profile {storage!r}: must be one of {', '.join(_SIZES)}")
    sizes = _SIZES[storage]
    return [
        _queue(subjects.CHECKS, "check.requested.>", sizes[subjects.CHECKS]),
        _queue(subjects.BUILDS, "compile.done.>", sizes[subjects.BUILDS]),
        _facts(
            subjects.EVALS,
            ["eval.done.>"],
            sizes[subjects.EVALS],
            duplicate_window=3600 * _NS,
            compression="s2",
            republish={"src": "eval.done.>", "dest": subjects.LIVE_EVALS},
        ),
        # Full, HISTORY must drop: refusing would hold back the acknowledgements of the queues it copies.
        _facts(
            subjects.HISTORY,
            [],
            sizes[subjects.HISTORY],
            compression="s2",
            sources=[{"name": subjects.CHECKS}, {"name": subjects.BUILDS}],
        ),
        _facts(subjects.DEAD, ["dead.>"], sizes[subjects.DEAD]),
        _facts(
            ADVISORY,
            [
                _MAX_DELIVERIES,
                "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
            ],
            sizes[ADVISORY],
        ),
        _objects(subjects.ARTIFACTS_BUCKET, sizes[subjects.ARTIFACTS_BUCKET]),
        _key_values(subjects.BUILDS_INDEX_BUCKET, sizes[subjects.BUILDS_INDEX_BUCKET]),
        _key_values(subjects.WORKERS_BUCKET, sizes[subjects.WORKERS_BUCKET]),
        _key_values(HANDED_BACK_BUCKET, sizes[HANDED_BACK_BUCKET]),
    ]


def _stream(name: str, on: list[str], size: _Size, **extra: Any) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": on,
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "max_bytes": size.max_bytes,
        "max_msgs": size.max_msgs,
        "max_age": int(size.max_age_s * _NS),
        "max_msgs_per_subject": -1,
        "max_consumers": 256,  # left out, the server's default of 1,000 becomes a cliff
        "duplicate_window": 120 * _NS,
        "allow_direct": True,
        **extra,
    }


def _queue(name: str, subject: str, size: _Size) -> dict[str, Any]:
    """Work: each message goes to one worker, and a full queue refuses."""
    return _stream(
        name,
        [subject],
        size,
        retention="workqueue",
        discard="new",
        max_msg_size=_MIB,
        max_consumers=64,
        duplicate_window=600 * _NS,
    )


def _facts(name: str, on: list[str], size: _Size, **extra: Any) -> dict[str, Any]:
    """What happened: kept until it is old or too much."""
    return _stream(name, on, size, **extra)


def _objects(bucket: str, size: _Size) -> dict[str, Any]:
    """An Object Store bucket (ADR-20). The library's own creation leaves `max_consumers` to the server."""
    return _stream(
        f"OBJ_{bucket}",
        [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        size,
        discard="new",
        allow_rollup_hdrs=True,
        max_consumers=10_000,
    )


def _key_values(bucket: str, size: _Size) -> dict[str, Any]:
    """A key-value bucket (ADR-8) that keeps the last value of each key."""
    return _stream(
        f"KV_{bucket}",
        [f"$KV.{bucket}.>"],
        size,
        discard="new",
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
        duplicate_window=int(min(120, size.max_age_s)) * _NS,
        max_consumers=10_000,
    )


async def _create_stream(bus: Bus, config: dict[str, Any]) -> None:
    name = config["name"]
    answer = await bus.api(f"STREAM.CREATE.{name}", config)
    error = answer.get("error")
    if error is None:
        return
    if error.get("err_code") != _STREAM_EXISTS_OTHERWISE:
        raise Unavailable(_refused(f"stream {name}", error))
    existing = (await bus.api(f"STREAM.INFO.{name}", {})).get("config", {})
    differs = _differences(config, existing)
    wrong = {field: differs[field] for field in _KIND if field in differs}
    if wrong:
        raise Unavailable(
            f"the NATS server has a stream {name} of another kind: {wrong} (wanted, found). "
            "Delete it or use another server or account."
        )
    logger().info("stream_kept_as_it_is", stream=name, differs=differs)


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields whose values differ; the server leaves out what is empty or false."""
    return {
        field: (value, found.get(field))
        for field, value in wanted.items()
        if (value or None) != (found.get(field) or None) and not _same_sources(field, value, found)
    }


def _same_sources(field: str, wanted: Any, found: Mapping[str, Any]) -> bool:
    if field != "sources":
        return False
    return [source["name"] for source in wanted] == [source["name"] for source in found.get(field) or []]


async def _create_consumer(
    bus: Bus,
    stream: str,
    *,
    name: str,
    filter_subject: str,
    ack_wait_s: float,
    max_ack_pending: int,
    max_deliver: int = MAX_DELIVER,
) -> None:
    config = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        # No `backoff`: it would replace ack_wait, and +WPI would only extend by its current step.
        "ack_wait": int(ack_wait_s * _NS),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
        "max_waiting": 4096,  # cannot be changed later; above it pulls are refused
        "filter_subject": filter_subject,
        "replay_policy": "instant",
        "deliver_policy": "all",
    }
    # Without the action an existing consumer would silently take these values.
    body = {"stream_name": stream, "config": config, "action": "create"}
    answer = await bus.api(f"CONSUMER.CREATE.{stream}.{name}", body)
    error = answer.get("error")
    if error is None:
        return
    if error.get("err_code") not in _CONSUMER_EXISTS_OTHERWISE:
        raise Unavailable(_refused(f"consumer {name}", error))
    logger().info("consumer_kept_as_it_is", consumer=name, stream=stream)


def _refused(what: str, error: Mapping[str, Any]) -> str:
    hint = ""
    if error.get("err_code") == _STORAGE_EXCEEDED:
        hint = " The server reserves each stream's bytes: give it more storage, or set KECK_STORAGE=embedded."
    return f"the NATS server refuses {what}: {error.get('description')} ({error.get('err_code')}).{hint}"
