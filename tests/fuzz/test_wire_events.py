"""Bytes on the bus: an event of the expected type or `BadRequest`, and nothing else comes out of them."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
import uuid
from collections.abc import Coroutine
from datetime import UTC
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import nats.errors
import pytest
from hypothesis import strategies as st

from keck import subjects
from keck.bus import Bus
from keck.dead_letters import verdict_on_unreadable
from keck.errors import BadRequest
from keck.messages import (
    CheckProgress,
    CheckRequested,
    CompileDone,
    EvalDone,
    Extension,
    Heartbeat,
    Source,
    decode,
    encode,
    to_json,
)
from keck.subjects import CheckKey
from keck.testing import sample_compile_done, sample_request
from keck_gateway.bodies import CheckBody
from keck_gateway.nats_service import _decoded

GOLDEN = Path(__file__).parents[1] / "contract" / "golden" / "v1"
TYPES = {
    kind.__struct_config__.tag: kind
    for kind in (CheckRequested, CompileDone, EvalDone, CheckProgress, Heartbeat)
}
BYTES = [path.read_bytes() for path in sorted(GOLDEN.glob("*.msgpack"))]
EVENTS = [msgspec.msgpack.decode(data) for data in BYTES]
REQUEST = next(data for data, event in zip(BYTES, EVENTS, strict=True) if event["type"] == "check.requested")

_INTERESTING = st.sampled_from(
    [
        0, -1, 1, 255, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, float("nan"), float("inf"),
        float("-inf"), "", "\n", "a.b", "*", ">", "\0", "a" * 65, "a" * 5_000, "é", "default\n", True, None, [], {}, b"", b"\xff",
    ]
)  # fmt: skip
_VALUES = st.recursive(
    _INTERESTING
    | st.text(max_size=20)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(-9, 9), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
_SPLICES = st.one_of(
    st.binary(max_size=16),
    st.sampled_from(
        [
            b"\xa3\xff\xfe\xfd",  # a string that is not UTF-8
            b"\x91" * 3_000,  # nested deeper than a stack
            b"\x81\xa1a" * 3_000,
            b"\xdd\xff\xff\xff\xff",  # four thousand million items announced
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xc1",
            b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp beyond the calendar
        ]
    ),
)


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """A golden event with bytes changed, cut, doubled or spliced in."""
    data = bytearray(draw(st.sampled_from(BYTES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "insert", "drop", "double"))):
            case "flip" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(_SPLICES)
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data += data[at:]
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, inner in items for found in _places(inner, (*path, key))]


PLACES = [(number, place) for number, event in enumerate(EVENTS) for place in _places(event)]


@st.composite
def mutated_fields(draw: st.DrawFn) -> bytes:
    """A golden event with values of any kind in some of its fields, at any depth."""
    number, place = draw(st.sampled_from(PLACES))
    event = copy.deepcopy(EVENTS[number])
    others = [path for other, path in PLACES if other == number]
    for path in (place, *draw(st.lists(st.sampled_from(others), max_size=2))):
        inner = event
        for key in path[:-1]:
            inner = inner[key] if isinstance(inner, dict) and key in inner else {}
        if isinstance(inner, dict):
            inner[path[-1]] = draw(_VALUES)
    return msgspec.msgpack.encode(event)


NOT_A_TIME = [
    # A time that is no number or infinite: null in JSON, which no client reads back.
    msgspec.msgpack.encode(event | {field: value})
    for event in EVENTS
    for field in ("deadline", "submitted_at", "at", "started_at")
    for value in (float("nan"), float("inf"))
    if field in event
]
NO_DIGESTS = [
    encode(sample_compile_done(run="fuzz", check_id="FRESH", **{field: value}))
    for field, value in (
        ("extensions", [Extension(name="x", call="0" * 64, artifact="a" * 5_000, size=1)]),
        ("extensions", [Extension(name="../../x", call="0" * 64, artifact="0" * 64, size=1)]),
        ("candidate", Source(sha256="b" * 5_000, size=1)),
        ("reference", Source(sha256="\0", size=1)),
    )
]
KNOWN = [
    # What is wrong was quoted at full length, in a log line and in the verdict.
    msgspec.msgpack.encode({"type": "a" * 5_000}),
    # A string that is not UTF-8 left as UnicodeDecodeError: a consumer took it for a failure of its own and
    # had the message delivered again until the server gave it up, without a verdict.
    REQUEST.replace(b"ModelNew", b"\xff\xfe\xfd\xfc\xff\xff\xff\xff"),
    # Nested deeper than the stack left as RecursionError.
    REQUEST[:-1] + b"\x91" * 5_000,
    b"\x91" * 5_000,
    b"\x82\xa4type\xafcheck.requested\xa1x" + b"\x91" * 5_000 + b"\xc0",
]


def assert_short(reason: str) -> None:
    assert len(reason) < 2_000


def check(data: bytes) -> None:
    """Every type may be expected of any bytes."""
    for kind in TYPES.values():
        try:
            event = decode(data, kind)
        except BadRequest as error:
            # It goes into a header, a log line and a verdict.
            assert_short(str(error))
            continue
        assert type(event) is kind
        again = encode(event)
        assert encode(decode(again, kind)) == again
        shown = to_json(event)
        assert json.loads(shown)["type"] == kind.__struct_config__.tag
        if kind in (CheckRequested, CheckProgress, Heartbeat):
            # What anybody may write, clients must be able to read: in a list of workers one would spoil all.
            assert to_json(msgspec.json.decode(shown, type=kind)) == shown


@pytest.mark.fuzz(share=2)
def test_events_with_bytes_changed_are_read_or_refused(fuzz):
    fuzz(mutated_bytes(), check, known=KNOWN, examples=300)


@pytest.mark.fuzz(share=2)
def test_events_with_fields_changed_are_read_or_refused(fuzz):
    fuzz(mutated_fields(), check, known=NOT_A_TIME, examples=300)


def test_bytes_that_were_never_an_event_are_refused(fuzz):
    random = st.binary(max_size=300) | _VALUES.map(msgspec.msgpack.encode) | _SPLICES
    fuzz(random, check, examples=200)


class _Message:
    """As much of a message as the verdict on an unreadable one is made of."""

    def __init__(self, subject: str, data: bytes) -> None:
        self.subject = subject
        self.data = data


def test_an_unreadable_message_always_has_its_verdict(fuzz):
    tokens = st.text(st.characters(codec="utf-8", exclude_characters=" .\r\n\t"), min_size=1, max_size=70)
    names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
    given_names = st.tuples(names | tokens, names | tokens)

    def check_verdict(drawn: tuple[tuple[str, str], bytes]) -> None:
        (run, check_id), data = drawn
        message: Any = _Message(f"check.requested.bulk.{run}.{check_id}", data)
        verdict = verdict_on_unreadable(message, "why " * 2)
        if verdict is not None:
            assert decode(encode(verdict), EvalDone) == verdict

    fuzz(
        st.tuples(given_names, mutated_bytes() | mutated_fields() | st.binary(max_size=40)),
        check_verdict,
        # The generation is looked for in the same bytes, and met the same exceptions.
        known=[(("run", "id"), data) for data in KNOWN],
    )


@st.composite
def request_bodies(draw: st.DrawFn) -> bytes:
    body: dict[str, Any] = {"candidate": "class ModelNew: ...", "reference": "class Model: ..."}
    body |= draw(st.dictionaries(st.sampled_from(CheckBody.__struct_fields__), _VALUES, max_size=4))
    is_json = draw(st.booleans())
    data = bytearray(
        msgspec.json.encode(body) if is_json and _is_json(body) else msgspec.msgpack.encode(body)
    )
    at = draw(st.integers(0, len(data)))
    data[at:at] = draw(st.just(b"") | _SPLICES | st.sampled_from([b"[" * 5_000, b'"\\ud800"', b"9" * 5_000]))
    return bytes(data)


def _is_json(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (msgspec.MsgspecError, TypeError, OverflowError):
        return False
    return True


def test_requests_over_the_bus_are_read_or_refused(fuzz):
    def check_body(data: bytes) -> None:
        try:
            body = _decoded(data, CheckBody)
        except BadRequest:
            return
        assert isinstance(body, CheckBody)

    fuzz(request_bodies(), check_body)


# --- The same on a real bus, with real services at its other end

ANSWER_S = 120.0
"""An executor judges one check at a time, and some of what is sent is one."""
SERVICE_MIB = {"gateway": 512, "compiler": 512, "executor": 1024}


class LiveBus:
    """A connection to a bus for each role, on a loop of their own, for targets that are plain functions."""

    def __init__(self, url: str, passwords: dict[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bus")
        self._url = url
        self._passwords = passwords
        self._of_role: dict[str, Bus] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        for role in ("gateway", "compiler", "orchestrator"):
            connecting = Bus.connect(self._url, name="fuzz", user=role, password=self._passwords[role])
            self._of_role[role] = self.run(connecting)
        self.bus = self._of_role["gateway"]
        return self

    def __exit__(self, *error: object) -> None:
        for bus in self._of_role.values():
            self.run(bus.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)

    async def send(self, messages: list[tuple[str, bytes]]) -> None:
        for subject, payload in messages:
            if subject == subjects.CHECK_SERVICE:
                # Whatever is asked is answered; a request that can be read waits for its verdict.
                try:
                    await self._of_role["orchestrator"].nc.request(subject, payload, timeout=20.0)
                except nats.errors.TimeoutError:
                    with_body = _decoded(payload, CheckBody)
                    assert isinstance(with_body, CheckBody)
            else:
                await self._allowed(subject).nc.publish(subject, payload)
        for bus in self._of_role.values():
            await bus.barrier()

    def _allowed(self, subject: str) -> Bus:
        is_compilers = subject.startswith(("compile.", "eval.", "check.progress.", "dead."))
        return self._of_role["compiler" if is_compilers else "gateway"]

    async def verdict(self, subject: str, what: object) -> EvalDone:
        async with asyncio.timeout(ANSWER_S):
            while (found := await self.bus.last_by_subject(subjects.EVALS, subject)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        event: EvalDone = decode(found[1], EvalDone)
        return event

    async def settled(self) -> None:
        """Return once no consumer of a living service holds or awaits anything."""
        consumers = [
            *((subjects.CHECKS, subjects.compile_consumer(lane)) for lane in subjects.LANES),
            *((subjects.BUILDS, subjects.execute_consumer("cpu", lane)) for lane in subjects.LANES),
        ]
        async with asyncio.timeout(ANSWER_S):
            for stream, consumer in consumers:
                while True:
                    info = await self.bus.api(f"CONSUMER.INFO.{stream}.{consumer}", {})
                    if not info["num_pending"] and not info["num_ack_pending"]:
                        break
                    await asyncio.sleep(0.1)


_NAMES = st.sampled_from(["018f2c", "train-7", "default", "x" * 64, "x" * 65, "é", "\u2028", "*", "-"])
_FRESH = st.just("FRESH")
_LONG = 4_050
"""Of a subject: the server closes a connection that sends it a line of more than 4,096 bytes."""
_RUNS = st.just("fuzz") | _NAMES
_SUBJECTS = st.one_of(
    st.builds("check.requested.{}.{}.{}".format, st.sampled_from(subjects.LANES), _RUNS, _FRESH | _NAMES),
    st.builds("compile.done.cpu.{}.{}.{}".format, st.sampled_from(subjects.LANES), _RUNS, _FRESH | _NAMES),
    st.sampled_from(
        [
            "check.requested.bulk.x", "check.requested.bulk.a.b.c.d", "check.requested.bulk.", "check.requested.bulk.a.>",
            "check.requested.bulk.a.*", "check.requested.interactive.018f2c.train-7", "check.requested.bulk.train-7.018f2c",
            "compile.done.cpu.bulk.train-7.018f2c", "compile.done.cpu.bulk.x", "compile.done.cpu.interactive.a.b.c",
            "eval.done.train-7.018f2c.2", "eval.done.a.b.x", "eval.done.a.b.-1", "eval.done.a.b.99999999999999999999", "eval.done.a",
            "check.progress.train-7.018f2c", "check.progress.a", "check.progress.a.b.c.d", "check.cancel.train-7.018f2c",
            *(f"{head}.bulk.fuzz.{'x' * _LONG}" for head in ("check.requested", "compile.done.cpu")),
            "check.cancel.a", "$KV.workers.x", "$KV.workers.a.b", "$KV.workers.executor-1", "dead.compile.a.b", "keck.check",
        ]
    ),
)  # fmt: skip
_PAYLOADS = (
    mutated_bytes() | mutated_fields() | st.binary(max_size=60) | st.sampled_from([*BYTES, *KNOWN, b""])
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.fuzz(share=6)
def test_services_outlive_whatever_is_published(fuzz, system):
    died = len(system.deaths)
    with (
        LiveBus(system.nats_url, system.passwords) as live,
        httpx.Client(base_url=system.http_url, timeout=ANSWER_S) as http,
    ):

        def check_services(drawn: list[tuple[str, bytes]]) -> None:
            ids = [uuid.uuid4().hex for _ in drawn]
            messages = [
                # An id of 32 letters is a string of another length: one byte more of a head.
                (subject.replace("FRESH", fresh), payload.replace(b"\xa5FRESH", b"\xd9\x20" + fresh.encode()))
                for fresh, (subject, payload) in zip(ids, drawn, strict=True)
            ]
            live.run(live.send(messages))
            # The compiler still reads requests, the executor builds, and the gateway both of their answers.
            request = sample_request(
                run="alive", lane="interactive", candidate="x = 1", check_id=uuid.uuid4().hex
            )
            build = sample_compile_done(request, check_id=uuid.uuid4().hex, deadline=time.time() - 1)
            live.run(
                live.send(
                    [
                        (subjects.check_requested("interactive", "alive", request.check_id), encode(request)),
                        (subjects.compile_done("cpu", "interactive", "alive", build.check_id), encode(build)),
                    ]
                )
            )
            for event, verdict in ((request, "reference_error"), (build, "deadline_exceeded")):
                subject = subjects.eval_done(CheckKey("alive", event.check_id, 0))
                assert live.run(live.verdict(subject, drawn)).verdict == verdict
                assert http.get(f"/v1/checks/{event.check_id}?run=alive").json()["verdict"] == verdict
            for path in ("/healthz", "/v1/executors"):
                assert http.get(path).status_code == 200
            for subject, payload in messages:
                _require_verdict(live, subject, payload)
            assert system.deaths[died:] == []

        fuzz(
            st.lists(st.tuples(_SUBJECTS, _PAYLOADS), min_size=1, max_size=12),
            check_services,
            known=[
                # None of these left a verdict: the consumer could not even say that it could not read them.
                *(
                    [("check.requested.bulk.fuzz.FRESH", data), ("compile.done.cpu.bulk.fuzz.FRESH", data)]
                    for data in KNOWN
                ),
                # The subject of its dead letter was too long: the server closed the connection, the compiler ended,
                # and so did each that was given the message after it.
                [(f"check.requested.bulk.fuzz.{'x' * _LONG}", b"")],
                [(f"compile.done.cpu.bulk.fuzz.{'x' * _LONG}", b"")],
                # An artifact's name becomes a subject: the same end for executors, one after the other.
                [("compile.done.cpu.bulk.fuzz.FRESH", data) for data in NO_DIGESTS],
            ],
            examples=10,
            cpu_s=60.0,
        )
        live.run(live.settled())
        whole = http.post(
            "/v1/checks?wait=60",
            json={"candidate": _RIGHT, "reference": _REFERENCE, "options": {"device": "cpu"}},
        )
        assert whole.json()["verdict"] == "passed", whole.text
    assert system.deaths[died:] == []
    for role, limit_mib in SERVICE_MIB.items():
        assert system.resident_mib(role) < limit_mib


_REFERENCE = """\
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.randn(8, 8)]
def get_init_inputs():
    return []
"""
_RIGHT = _REFERENCE.replace("class Model(", "class ModelNew(")


def _require_verdict(live: LiveBus, subject: str, payload: bytes) -> None:
    """What cannot be read has a verdict all the same, if its subject says whose check it is."""
    tokens = subject.split(".")
    kind = {"check.requested": CheckRequested, "compile.done": CompileDone}.get(".".join(tokens[:2]))
    if kind is None or tokens[-2] != "fuzz" or len(tokens[-1]) != 32:
        return
    try:
        decode(payload, kind)
    except BadRequest:
        verdict = live.run(live.verdict(f"eval.done.fuzz.{tokens[-1]}.*", payload))
        assert verdict.failure_kind == "unreadable_message"
