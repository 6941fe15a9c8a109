"""Roles on a real server: each can do its work, and nothing that is another's."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import nats
import pytest
from nats.aio.client import Client as NatsClient

from keck import Client, subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.consumer import Consumer
from keck.dead_letters import Letter, bury
from keck.endings import cancelled
from keck.errors import Misaddressed, NotPermitted, Unavailable
from keck.fleet import Beat, Fleet
from keck.messages import (
    CheckProgress,
    CheckRequested,
    CompileDone,
    EvalDone,
    Heartbeat,
    Replay,
    ReplaySource,
    decode,
    decode_verdict,
    encode,
)
from keck.nats_config import new_passwords
from keck.settings import Settings
from keck.streams import ensure_target, provision, stream_configs
from keck.subjects import CheckKey
from keck.testing import (
    NatsServer,
    async_wait_until,
    sample_compile_done,
    sample_eval_done,
    sample_request,
)
from keck_gateway.closing import Closing
from keck_gateway.lookup import Lookup
from keck_gateway.replay import Replays
from keck_gateway.undelivered import Undelivered

EXAMPLES = Path(__file__).parents[2] / "examples"
PASSWORDS = new_passwords(*subjects.ROLES)
STREAMS = [config["name"] for config in stream_configs("embedded")]
KEY = CheckKey("run", "check", 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for all tests here: each uses a check of its own."""
    store = tmp_path_factory.mktemp("nats")
    with NatsServer(store, passwords=PASSWORDS, anonymous=True) as running:
        asyncio.run(_provision(running))
        yield running


async def _provision(server: NatsServer) -> None:
    async with await Bus.connect(
        server.url, name="t", user="gateway", password=PASSWORDS["gateway"]
    ) as gateway:
        await provision(gateway, storage="embedded")
        await ensure_target(gateway, "cpu")
    async with (
        await Bus.connect(server.url, name="t", user="admin", password=PASSWORDS["admin"]) as admin,
        asyncio.timeout(20),
    ):
        for queue in (subjects.CHECKS, subjects.BUILDS):  # HISTORY begins to copy a moment later
            while not any("JS_SRC" in name for name in await _consumers(admin, queue)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def _consumers(bus: Bus, stream: str) -> list[str]:
    names: list[str] = (await bus.api(f"CONSUMER.NAMES.{stream}", {}))["consumers"]
    return names


Login = Callable[[str], Awaitable[Bus]]


@pytest.fixture
async def login(server: NatsServer) -> AsyncIterator[Login]:
    """Connects as a role, through the same code as every service."""
    async with AsyncExitStack() as stack:

        async def connect(role: str) -> Bus:
            user, password = ("", "") if role == "anonymous" else (role, PASSWORDS[role])
            bus = await Bus.connect(server.url, name=role, user=user, password=password)
            return await stack.enter_async_context(bus)

        yield connect


# --- what each role needs


async def test_a_check_passes_through_every_role(login: Login, server: NatsServer) -> None:
    """Submitted by an orchestrator, built, judged, told: with the code that the services run."""
    compiler, executor, gateway = [await login(role) for role in ("compiler", "executor", "gateway")]
    settings = Settings(nats_user="orchestrator", nats_password=PASSWORDS["orchestrator"])
    library = b"shared object" * 100_000

    async def build(request: CheckRequested, attempt: int) -> None:
        name = await Artifacts(compiler).put(library)
        build = sample_compile_done(request)
        extension = msgspec.structs.replace(build.extensions[0], artifact=name, size=len(library))
        build = msgspec.structs.replace(build, extensions=[extension])
        key = CheckKey(request.run, request.check_id, request.generation)
        await compiler.publish_progress(_progress(request))
        await compiler.publish(
            subjects.compile_done("cpu", request.lane, request.run, request.check_id),
            build,
            msg_id=subjects.build_id(key),
        )

    async def judge(build: CompileDone, attempt: int) -> None:
        assert await Artifacts(executor).get(build.extensions[0].artifact) == library
        assert await executor.publish_terminal(sample_eval_done(build))

    async with AsyncExitStack() as stack:
        compilers = [subjects.compile_consumer(lane) for lane in subjects.LANES]
        executors = [subjects.execute_consumer("cpu", lane) for lane in subjects.LANES]
        await _consume(stack, compiler, subjects.CHECKS, compilers, CheckRequested, build)
        await _consume(stack, executor, subjects.BUILDS, executors, CompileDone, judge)
        heard = Fleet(gateway)
        await heard.start()
        stack.push_async_callback(heard.stop)
        await Beat(executor, lambda: _heartbeat("executor-1")).now()
        client = await stack.enter_async_context(Client(server.url, settings=settings))
        verdict = await client.check("candidate", "reference", run="through", timeout_s=20)
        assert verdict.verdict == "passed"
        key = CheckKey("through", verdict.check_id, 0)
        assert await client.result(key, timeout_s=5) == verdict
        assert await heard.wait_for(lambda fleet: fleet.has_target("cpu"), 5)
        assert [worker.worker for worker in await client.executors()] == ["executor-1"]
        for stream, subject in (
            (subjects.EVALS, subjects.eval_done(key)),
            (subjects.HISTORY, subjects.check_requested("*", *key[:2])),
            (subjects.HISTORY, subjects.compile_done("*", "*", *key[:2])),
        ):
            async with asyncio.timeout(5):  # HISTORY copies what it keeps a moment later
                while await gateway.last_by_subject(stream, subject) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


async def test_a_worker_hands_back_what_it_did_not_start(login: Login) -> None:
    """Draining notes the delivery in a bucket, which the next worker reads; both stages do."""
    for role, stream in (("compiler", subjects.CHECKS), ("executor", subjects.BUILDS)):
        bus, submitter = await login(role), await login("orchestrator" if role == "compiler" else "compiler")
        request = sample_request(run=f"handed-{role}", lane="bulk")
        if role == "compiler":
            subject = subjects.check_requested("bulk", request.run, request.check_id)
            await submitter.publish(subject, request, msg_id=request.check_id)
            consumer = subjects.compile_consumer("bulk")
        else:
            subject = subjects.compile_done("cpu", "bulk", request.run, request.check_id)
            await submitter.publish(subject, sample_compile_done(request), msg_id=request.check_id)
            consumer = subjects.execute_consumer("cpu", "bulk")
        started, attempts = asyncio.Event(), list[int]()

        async def hold(event: object, attempt: int, started: asyncio.Event = started) -> None:
            started.set()
            await asyncio.Event().wait()

        async def take(event: object, attempt: int, attempts: list[int] = attempts) -> None:
            attempts.append(attempt)

        expect = CheckRequested if role == "compiler" else CompileDone
        async with AsyncExitStack() as stack:
            await _consume(stack, bus, stream, [consumer], expect, hold)
            await asyncio.wait_for(started.wait(), 10)
        async with AsyncExitStack() as stack:
            await _consume(stack, bus, stream, [consumer], expect, take)
            await async_wait_until(lambda attempts=attempts: attempts == [1], timeout_s=10)


async def test_a_compiler_ends_a_check_that_does_not_build(login: Login) -> None:
    compiler = await login("compiler")
    verdict = sample_eval_done(sample_request(run="unbuilt"))
    assert await compiler.publish_terminal(verdict)
    assert await compiler.is_decided(CheckKey(verdict.run, verdict.check_id, 0))


async def test_a_message_that_cannot_be_read_is_buried_and_answered_by_either_worker(login: Login) -> None:
    for role, stream, submitter in (
        ("compiler", subjects.CHECKS, "orchestrator"),
        ("executor", subjects.BUILDS, "compiler"),
    ):
        worker, sender = await login(role), await login(submitter)
        check_id = f"unreadable-{role}"
        requested = subjects.check_requested("bulk", "run", check_id)
        subject = requested if role == "compiler" else subjects.compile_done("cpu", "bulk", "run", check_id)
        consumer = (
            subjects.compile_consumer("bulk")
            if role == "compiler"
            else subjects.execute_consumer("cpu", "bulk")
        )
        await sender.store(subject, b"no event")
        expect = CheckRequested if role == "compiler" else CompileDone
        key = CheckKey("run", check_id, 0)
        async with AsyncExitStack() as stack:
            await _consume(stack, worker, stream, [consumer], expect, _nothing)
            async with asyncio.timeout(10):
                while not await worker.is_decided(key):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
        stage = "compile" if role == "compiler" else "execute"
        admin = await login("admin")
        assert await admin.last_by_subject(subjects.DEAD, subjects.dead(stage, "run", check_id))


async def test_an_orchestrator_reads_its_verdicts_with_a_durable_consumer(login: Login) -> None:
    """As the example does: nothing but nats-py, and no user where the server lets in who names none."""
    executor = await login("executor")
    for role in ("orchestrator", "anonymous"):
        orchestrator = await login(role)
        verdict = sample_eval_done(sample_request(run=f"durable-{role}"))
        await executor.publish_terminal(verdict)
        pulled = await orchestrator.js.pull_subscribe(
            f"eval.done.{verdict.run}.>", durable=verdict.run, stream=subjects.EVALS
        )
        [message] = await pulled.fetch(1, timeout=5)
        assert decode(message.data, EvalDone) == verdict
        await message.ack_sync(timeout=5)


@pytest.mark.parametrize(
    "credentials", ["", f"orchestrator:{PASSWORDS['orchestrator']}@"], ids=["none", "role"]
)
async def test_the_orchestrator_example_works_with_and_without_credentials(
    login: Login, server: NatsServer, credentials: str
) -> None:
    compiler = await login("compiler")

    async def judge(request: CheckRequested, attempt: int) -> None:
        await compiler.publish_terminal(sample_eval_done(request))

    async with AsyncExitStack() as stack:
        consumers = [subjects.compile_consumer("bulk")]
        await _consume(stack, compiler, subjects.CHECKS, consumers, CheckRequested, judge)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / "orchestrator.py"),
            server.url.replace("nats://", f"nats://{credentials}"),
            *(str(EXAMPLES / "cpp_relu" / name) for name in ("candidate.py", "reference.py")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, err.decode()
        assert " passed " in out.decode()


async def test_an_orchestrator_may_ask_a_gateway_and_hear_its_answer(login: Login) -> None:
    gateway = await login("gateway")

    async def answer(message: object) -> None:
        await gateway.nc.publish(message.reply, b"verdict")  # type: ignore[attr-defined]

    await gateway.subscribe(subjects.CHECK_SERVICE, answer, queue=subjects.GATEWAY_QUEUE)
    for role in ("orchestrator", "anonymous"):
        caller = await login(role)
        assert (await caller.request(subjects.CHECK_SERVICE, b"{}")).data == b"verdict"


@pytest.mark.parametrize("source", ["eval.done", "compile.done", "check.requested"])
async def test_a_gateway_does_checks_again(login: Login, source: ReplaySource) -> None:
    gateway, compiler, orchestrator = [await login(role) for role in ("gateway", "compiler", "orchestrator")]
    request = sample_request(run=f"again-{source.replace('.', '-')}")
    key, build = CheckKey(request.run, request.check_id, 0), sample_compile_done(request)
    requested = subjects.check_requested(request.lane, request.run, request.check_id)
    await orchestrator.publish(requested, request, msg_id=subjects.request_id(key))
    built = subjects.compile_done("cpu", request.lane, request.run, request.check_id)
    await compiler.publish(built, build, msg_id=subjects.build_id(key))
    await compiler.publish_terminal(sample_eval_done(request))
    async with asyncio.timeout(5):
        for subject in (requested, built):
            while await gateway.last_by_subject(subjects.HISTORY, subject) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    order = Replay(source=source, run=request.run, options={"policy": "custom-only"})
    told = [progress async for progress in Replays(gateway).run(order)]
    assert (told[-1].finished, told[-1].made) == (True, 1), told[-1].error
    admin = await login("admin")
    for queue in (subjects.CHECKS, subjects.BUILDS):  # other tests pull from them
        await admin.js.purge_stream(queue)


async def test_a_gateway_ends_what_nobody_else_does(login: Login) -> None:
    gateway, orchestrator, admin = [await login(role) for role in ("gateway", "orchestrator", "admin")]
    request = sample_request(run="ended")
    key = CheckKey(request.run, request.check_id, 0)
    subject = subjects.check_requested("bulk", request.run, request.check_id)
    await orchestrator.publish(subject, request, msg_id=subjects.request_id(key))
    done = await Closing(gateway, Lookup(gateway)).close(key, cancelled)
    assert done.verdict == "cancelled"
    assert await admin.last_by_subject(subjects.CHECKS, subject) is None
    letter = Letter(stream="CHECKS", sequence=1, stored_at="then", subject=subject, data=b"x")
    await bury(gateway, letter, stage="compile", reason="a test")
    working = asyncio.create_task(Undelivered(gateway, Closing(gateway, Lookup(gateway))).run())
    waiting = 0
    while not waiting:
        info = await admin.api("CONSUMER.INFO.ADVISORY.undelivered", {})
        waiting = info.get("num_waiting", 0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_an_observer_sees_verdicts_progress_workers_and_queues(login: Login) -> None:
    observer, executor = await login("observer"), await login("executor")
    heard = list[str]()

    async def hear(message: object) -> None:
        heard.append(message.subject.partition(".")[0])  # type: ignore[attr-defined]

    for subject in (subjects.LIVE_EVALS, subjects.PROGRESS):
        await observer.subscribe(subject, hear)
    verdict = sample_eval_done(sample_request(run="observed"))
    await executor.publish_progress(_progress(sample_request()))
    await executor.publish_terminal(verdict)
    await async_wait_until(lambda: heard == ["check", "live"])
    assert await observer.is_decided(CheckKey(verdict.run, verdict.check_id, 0))
    assert "state" in await observer.api(f"STREAM.INFO.{subjects.CHECKS}", {})
    consumer = f"{subjects.BUILDS}.{subjects.execute_consumer('cpu', 'bulk')}"
    assert "num_pending" in await observer.api(f"CONSUMER.INFO.{consumer}", {})
    fleet = Fleet(observer)
    await fleet.start()
    await fleet.stop()


async def test_workers_start_on_a_server_that_others_provision(login: Login) -> None:
    """Nothing is created, nothing fails, and no time is lost on answers that will not come."""
    async with asyncio.timeout(2):
        for role in ("compiler", "executor"):
            bus = await login(role)
            await provision(bus, storage="embedded")
            await ensure_target(bus, "sm999")
    gateway = await login("gateway")
    made = await gateway.api(f"CONSUMER.INFO.{subjects.BUILDS}.execute-sm999-bulk", {})
    assert made["error"]["err_code"] == 10014


# --- what the server refuses


class Refusal(NamedTuple):
    role: str
    what: str
    publish: str = ""
    subscribe: str = ""


def _refusals() -> list[Refusal]:
    verdict, live = subjects.eval_done(KEY), subjects.live_eval_done(KEY)
    build = subjects.compile_done("cpu", "bulk", "run", "check")
    request = subjects.check_requested("bulk", "run", "check")
    index = f"$KV.{subjects.BUILDS_INDEX_BUCKET}.key"
    chunk, entry = f"$O.{subjects.ARTIFACTS_BUCKET}.C.x", f"$O.{subjects.ARTIFACTS_BUCKET}.M.x"
    heartbeat = f"$KV.{subjects.WORKERS_BUCKET}.executor-1"
    next_of = "$JS.API.CONSUMER.MSG.NEXT"
    publishes: dict[str, dict[str, str]] = {
        "gateway": {
            "announce a verdict that is not stored": live,
            "put an artifact": chunk,
            "name a build": index,
            "pull requests": f"{next_of}.CHECKS.compile-bulk",
            "pull builds": f"{next_of}.BUILDS.execute-cpu-bulk",
            "create a push consumer of verdicts": "$JS.API.CONSUMER.CREATE.EVALS.mine",
            "answer as a worker would hear it": "_INBOX_executor.x",
        },
        "compiler": {
            "submit a check": request,
            "announce a verdict that is not stored": live,
            "cancel a check": "check.cancel.run.check",
            "pull builds": f"{next_of}.BUILDS.execute-cpu-bulk",
            "settle another stage's work": "$JS.ACK.BUILDS.execute-cpu-bulk.1.1.1.1.0",
            "read requests it was not given": f"$JS.API.DIRECT.GET.CHECKS.{request}",
            "drop artifacts' stream": "$JS.API.STREAM.DELETE.OBJ_artifacts",
            "bury an executor's message": subjects.dead("execute", "run", "check"),
        },
        "executor": {
            "forge a build": build,
            "announce a verdict that is not stored": live,
            "cancel a check": "check.cancel.run.check",
            "put an artifact": chunk,
            "name an artifact": entry,
            "name a build": index,
            "drop artifacts": "$JS.API.STREAM.PURGE.OBJ_artifacts",
            "pull requests": f"{next_of}.CHECKS.compile-bulk",
            "settle another stage's work": "$JS.ACK.CHECKS.compile-bulk.1.1.1.1.0",
            "read requests": f"$JS.API.DIRECT.GET.CHECKS.{request}",
        },
        "orchestrator": {
            "forge a verdict": verdict,
            "announce a verdict that is not stored": live,
            "forge a build": build,
            "pretend progress": subjects.progress("run", "check"),
            "pretend to be a worker": heartbeat,
            "put an artifact": chunk,
            "name a build": index,
            "pull requests": f"{next_of}.CHECKS.compile-bulk",
            "pull builds": f"{next_of}.BUILDS.execute-cpu-bulk",
            "read others' requests": f"$JS.API.DIRECT.GET.CHECKS.{request}",
            "read builds": f"$JS.API.DIRECT.GET.BUILDS.{build}",
            "read the past": f"$JS.API.DIRECT.GET.HISTORY.{request}",
            "read artifacts": f"$JS.API.DIRECT.GET.OBJ_artifacts.{entry}",
            "consume requests": f"$JS.API.CONSUMER.CREATE.CHECKS.mine.{request}",
            "delete a consumer": "$JS.API.CONSUMER.DELETE.EVALS.mine",
            "bury a message": subjects.dead("compile", "run", "check"),
        },
        "observer": {
            "submit a check": request,
            "ask a gateway": subjects.CHECK_SERVICE,
            "ask for a replay": subjects.REPLAY_SERVICE,
            "cancel a check": "check.cancel.run.check",
            "forge a verdict": verdict,
            "forge a build": build,
            "pretend progress": subjects.progress("run", "check"),
            "pretend to be a worker": heartbeat,
            "read others' requests": f"$JS.API.DIRECT.GET.CHECKS.{request}",
            "read builds": f"$JS.API.DIRECT.GET.BUILDS.{build}",
            "create a consumer": f"$JS.API.CONSUMER.CREATE.EVALS.mine.{verdict}",
            "pull from another's consumer": f"{next_of}.EVALS.theirs",
        },
    }
    publishes["anonymous"] = publishes["orchestrator"]
    everybody = {
        "create a stream of its own": "$JS.API.STREAM.CREATE.MINE",
        "delete verdicts": "$JS.API.STREAM.MSG.DELETE.EVALS",
        **{f"alter {stream}": f"$JS.API.STREAM.UPDATE.{stream}" for stream in STREAMS},
        **{f"delete {stream}": f"$JS.API.STREAM.DELETE.{stream}" for stream in STREAMS},
        **{
            f"purge {stream}": f"$JS.API.STREAM.PURGE.{stream}"
            for stream in STREAMS
            if stream != "OBJ_artifacts"
        },
        "learn of the server": "$SYS.REQ.SERVER.PING",
    }
    hears: dict[str, dict[str, str]] = {
        role: {
            f"listen to the {other}'s inboxes": f"_INBOX_{other}.>" for other in subjects.ROLES if other != role
        }
        | {"listen to everything": ">", "listen to requests": "check.requested.>", "listen to builds": "compile.done.>"}
        for role in publishes
    }  # fmt: skip
    for role in set(publishes) - {"gateway"}:
        hears[role]["answer as a gateway"] = subjects.CHECK_SERVICE
        hears[role]["be asked for replays"] = subjects.REPLAY_SERVICE
    found = [
        Refusal(role, what, publish=subject)
        for role, forbidden in publishes.items()
        for what, subject in (forbidden | everybody).items()
    ]
    found += [
        Refusal(role, f"create {stream}", publish=f"$JS.API.STREAM.CREATE.{stream}")
        for role in publishes
        if role != "gateway"
        for stream in STREAMS
    ]
    found += [
        Refusal(role, what, subscribe=subject)
        for role, forbidden in hears.items()
        for what, subject in forbidden.items()
    ]
    return found


class Raw(NamedTuple):
    """A connection without any of our code, and what the server reproached it with."""

    nc: NatsClient
    errors: list[str]


@pytest.fixture
async def raw(server: NatsServer, request: pytest.FixtureRequest) -> AsyncIterator[Raw]:
    role = request.param
    errors: list[str] = []

    async def reproach(error: Exception) -> None:
        errors.append(str(error).lower())

    credentials = (
        {}
        if role == "anonymous"
        else {"user": role, "password": PASSWORDS[role], "inbox_prefix": f"_INBOX_{role}"}
    )
    nc = await nats.connect(server.url, error_cb=reproach, **credentials)
    yield Raw(nc, errors)
    await nc.close()


@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        pytest.param(refusal.role, refusal, id=f"{refusal.role} may not {refusal.what}".replace(" ", "-"))
        for refusal in _refusals()
    ],
    indirect=["raw"],
)
async def test_the_server_refuses_what_is_not_the_roles(raw: Raw, refusal: Refusal) -> None:
    if refusal.publish:
        await raw.nc.publish(refusal.publish, b"{}")
        expected = f'permissions violation for publish to "{refusal.publish}"'
    else:
        await raw.nc.subscribe(refusal.subscribe)
        expected = f'permissions violation for subscription to "{refusal.subscribe}"'
    await raw.nc.flush()
    await async_wait_until(lambda: raw.errors)
    assert expected.lower() in raw.errors[0]


async def test_a_consumers_filter_cannot_be_another_than_its_subject_says(login: Login) -> None:
    """The subject is what the server permits; the body must agree with it."""
    orchestrator = await login("orchestrator")
    answer = await orchestrator.api(
        f"CONSUMER.CREATE.{subjects.EVALS}.sly.eval.done.mine.>",
        {"stream_name": subjects.EVALS, "config": {"name": "sly", "filter_subject": "eval.done.>"}},
    )
    assert "error" in answer


async def test_a_refused_publish_says_so_at_once(login: Login) -> None:
    observer = await login("observer")
    async with asyncio.timeout(2):  # without it, silence and five attempts
        with pytest.raises(NotPermitted, match=r"refuses check\.requested\.bulk\.run\.x .*KECK_NATS_USER"):
            await observer.store("check.requested.bulk.run.x", b"")
        with pytest.raises(NotPermitted):
            await observer.api("STREAM.CREATE.MINE", {"name": "MINE"})
        with pytest.raises(NotPermitted):
            await observer.subscribe("check.requested.>", _nothing)


@pytest.mark.parametrize("user", ["gateway", "executor", "nobody"])
async def test_a_wrong_password_is_refused_with_what_to_look_at(server: NatsServer, user: str) -> None:
    with pytest.raises(Unavailable, match=r"Authorization Violation.*KECK_NATS_USER"):
        await Bus.connect(server.url, name="t", user=user, password="wrong")


async def test_without_anonymous_whoever_names_no_user_is_refused(tmp_path: Path) -> None:
    with NatsServer(tmp_path, passwords=PASSWORDS) as closed:
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await Bus.connect(closed.url, name="t")
        await (await Bus.connect(closed.url, name="t", user="admin", password=PASSWORDS["admin"])).close()


def test_the_servers_configuration_holds_no_password(tmp_path: Path) -> None:
    with NatsServer(tmp_path, passwords=PASSWORDS):
        written = (tmp_path / "nats.conf").read_text()
    assert not [role for role, password in PASSWORDS.items() if password in written]
    assert json.loads(written)["accounts"]["KECK"]["users"][0]["password"].startswith("$2b$")


# --- what permissions cannot refuse, and who stands in for them


async def test_a_verdict_that_was_copied_to_another_checks_subject_is_not_believed(
    login: Login, server: NatsServer
) -> None:
    """The server checks no reply subject: an answer can be sent to where its asker may not publish."""
    executor, orchestrator = await login("executor"), await login("orchestrator")
    mine = sample_eval_done(sample_request(run="mine"))
    mine_on = subjects.eval_done(CheckKey(mine.run, mine.check_id, 0))
    # Without a Msg-Id, as the server remembers an hour later: until then it drops the copy as a duplicate.
    await executor.store(mine_on, encode(mine))
    theirs = CheckKey("theirs", "check", 0)
    await orchestrator.nc.publish(
        f"$JS.API.DIRECT.GET.{subjects.EVALS}.{mine_on}", b"", reply=subjects.eval_done(theirs)
    )
    async with asyncio.timeout(5):
        while (stored := await executor.last_by_subject(subjects.EVALS, subjects.eval_done(theirs))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(Misaddressed, match="is that of"):
        decode_verdict(stored[1], of=theirs)
    settings = Settings(nats_user="orchestrator", nats_password=PASSWORDS["orchestrator"])
    async with Client(server.url, settings=settings) as client:
        with pytest.raises(Misaddressed):
            await client.result(theirs, timeout_s=5)


# --- helpers


async def _consume(  # noqa: PLR0917 - as the Consumer takes them
    stack: AsyncExitStack,
    bus: Bus,
    stream: str,
    consumers: list[str],
    expect: type,
    handle: Callable[..., Awaitable[None]],
) -> None:
    async def give_up(event: object, reason: str, kind: str, attempts: int) -> None:
        raise AssertionError(reason)

    consumer = Consumer(
        bus,
        stream=stream,
        consumers=consumers,
        expect=expect,
        slots=1,
        handle=handle,
        on_exhausted=give_up,
    )
    running = asyncio.create_task(consumer.run())

    async def stop() -> None:
        await consumer.drain(0)
        await running

    stack.push_async_callback(stop)


async def _nothing(*_: object) -> None: ...


def _progress(request: CheckRequested) -> CheckProgress:
    return CheckProgress(
        check_id=request.check_id,
        run=request.run,
        generation=request.generation,
        stage="compile",
        message="building",
        at=0.0,
    )


def _heartbeat(worker: str) -> Heartbeat:
    return Heartbeat(
        worker=worker, role="executor", host="h", pid=1, version="0", started_at=0.0, at=time.time(),
        slots=1, busy=0, target="cpu",
    )  # fmt: skip
