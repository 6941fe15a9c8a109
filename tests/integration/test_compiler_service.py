"""The compiler service on a real bus, with real cells behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keck import subjects
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.containment import isolation_of
from keck.hashing import sha256_hex
from keck.messages import CheckProgress, CheckRequested, CompileDone, EvalDone, Options, decode, new_request
from keck.settings import Settings
from keck.subjects import CheckKey
from keck.testing import async_wait_until, sample_request
from keck.verdict import Verdict
from keck.worker import Worker
from keck_cell import call_from_load_inline
from keck_compiler.service import serve, slots_of
from keck_sandbox.ladder import climb

_HEAD = "import torch\nfrom torch.utils.cpp_extension import load_inline\n"
_MODEL = "class ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return x\n"
_REFERENCE = (
    "import torch\nclass Model(torch.nn.Module):\n    pass\n"
    "def get_inputs():\n    return []\ndef get_init_inputs():\n    return []\n"
)
_SOURCE = """
#include <Python.h>
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", nullptr, -1, nullptr};
PyMODINIT_FUNC PyInit_NAME() { return PyModule_Create(&module); }
"""
_SLOW_TO_COMPILE = """
constexpr long spin(long seed) {
    long sum = seed;
    for (long i = 0; i < 500; ++i)
        for (long j = 0; j < 500; ++j) sum += (i ^ j) % 7;
    return sum;
}
static_assert(spin(0) > 0 && spin(1) > 0 && spin(2) > 0 && spin(3) > 0 && spin(4) > 0 && spin(5) > 0, "seconds of work for the compiler");
"""


async def _serve(bus: Bus, stop: asyncio.Event, settings: Settings) -> None:
    isolation = isolation_of(await climb())
    await serve(bus, stop, settings=settings, worker=Worker.of(settings, "compiler"), isolation=isolation)


@pytest.fixture
async def compiler(bus: Bus) -> AsyncIterator[None]:
    """A compiler that serves until the test is over."""
    stop = asyncio.Event()
    settings = Settings(
        worker="compiler-under-test", compiler_cpus=1, compile_timeout_s=400.0, record_timeout_s=200.0
    )
    serving = asyncio.create_task(_serve(bus, stop, settings))
    yield
    stop.set()
    await serving


def _request(candidate: str, **options: Any) -> CheckRequested:
    return new_request(candidate, _REFERENCE, options=Options(**options))


def _with_extensions(*names: str, source: str = _SOURCE) -> str:
    calls = "".join(
        f"{name} = load_inline({name!r}, {source.replace('NAME', name)!r}, no_implicit_headers=True)\n"
        for name in names
    )
    return f"{_HEAD}{calls}{_MODEL}"


async def _submit(bus: Bus, request: CheckRequested) -> CompileDone | EvalDone:
    """Publish a request and wait for what the compiler makes of it."""
    await bus.publish(
        subjects.check_requested(request.lane, request.run, request.check_id),
        request,
        msg_id=request.check_id,
    )
    found: list[CompileDone | EvalDone] = []
    verdict = subjects.eval_done(CheckKey(request.run, request.check_id, request.generation))

    async def look() -> bool:
        for target in ("cpu", subjects.CUDA_ANY, "sm90"):
            subject = subjects.compile_done(target, request.lane, request.run, request.check_id)
            if stored := await bus.last_by_subject(subjects.BUILDS, subject):
                found.append(decode(stored[1], CompileDone))
        if stored := await bus.last_by_subject(subjects.EVALS, verdict):
            found.append(decode(stored[1], EvalDone))
        return bool(found)

    async with asyncio.timeout(500):
        while not await look():  # noqa: ASYNC110 - what is waited for lies on the server
            await asyncio.sleep(0.02)
    (event,) = found
    return event


@pytest.mark.usefixtures("compiler")
async def test_a_candidate_without_extensions_passes_through(bus: Bus) -> None:
    progress: list[CheckProgress] = []

    async def heard(message: Any) -> None:
        progress.append(decode(message.data, CheckProgress))

    await bus.subscribe(subjects.PROGRESS, heard)
    await bus.barrier()
    request = sample_request(reference=_REFERENCE)
    event = await _submit(bus, request)
    assert isinstance(event, CompileDone)
    assert (event.target, event.extensions, event.build.recipe) == ("cpu", [], "none")
    assert event.candidate.text == request.candidate
    await async_wait_until(lambda: len(progress) == 2)
    assert [(item.stage, item.target) for item in progress] == [("format", ""), ("compiled", "cpu")]


@pytest.mark.usefixtures("compiler")
async def test_large_sources_go_by_hash(bus: Bus) -> None:
    request = _request(_MODEL + "# " + "x" * 70_000)
    event = await _submit(bus, request)
    assert isinstance(event, CompileDone)
    assert event.candidate.text is None
    assert await Artifacts(bus).get(event.candidate.sha256) == request.candidate.encode()


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        ({"candidate": "x = 1"}, Verdict.FORMAT_ERROR, "defines no class `ModelNew`"),
        ({"candidate": "class ModelNew(:"}, Verdict.FORMAT_ERROR, "not valid Python"),
        ({"reference": "x = 1"}, Verdict.REFERENCE_ERROR, "`Model`"),
        ({"reference": "x = 1", "candidate": "x = 1"}, Verdict.REFERENCE_ERROR, "`Model`"),
        ({"kind": "sculpture"}, Verdict.INFRA_ERROR, "unknown kind 'sculpture'"),
        ({"deadline": 1.0}, Verdict.DEADLINE_EXCEEDED, "deadline passed"),
    ],
)
@pytest.mark.usefixtures("compiler")
async def test_what_cannot_be_compiled_ends_in_its_verdict(
    bus: Bus, change: dict[str, Any], verdict: Verdict, said: str
) -> None:
    request = sample_request(**{"reference": _REFERENCE, **change})
    event = await _submit(bus, request)
    assert isinstance(event, EvalDone)
    assert event.verdict is verdict
    assert said in event.message
    assert event.hashes.candidate == sha256_hex(request.candidate)


# Python 3.11's parser takes 8 s for it.
_BOMB = f"{_MODEL}x = f'{'{a}' * 120_000}'\n"


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("compiler")
async def test_a_text_that_stalls_the_parser_is_refused_while_other_checks_go_on(bus: Bus) -> None:
    bomb = asyncio.create_task(_submit(bus, _request(_BOMB)))
    others = 0
    while not bomb.done():
        event = await _submit(bus, _request(f"{_MODEL}# {others}\n"))
        assert isinstance(event, CompileDone)
        others += 1
    assert others > 3 or slots_of(Settings(compiler_cpus=1)) == 1
    event = await bomb
    assert isinstance(event, EvalDone)
    assert (event.verdict, event.stage) == (Verdict.FORMAT_ERROR, "format")
    assert event.message == "the candidate takes more than 2 s to read"

    event = await _submit(bus, new_request(_MODEL, _REFERENCE + _BOMB))
    assert isinstance(event, EvalDone)
    assert event.verdict is Verdict.REFERENCE_ERROR
    assert event.message == "the reference takes more than 2 s to read"


@pytest.mark.usefixtures("compiler")
async def test_what_the_text_shows_goes_along(bus: Bus) -> None:
    candidate = f"{_MODEL}    def helper(self, x):\n        return torch.relu(x)\n"
    event = await _submit(bus, _request(f"import torch\n{candidate}"))
    assert isinstance(event, CompileDone)
    assert [(found.code, found.line) for found in event.reading.findings] == [("delegation.aten", 6)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("compiler")
async def test_extensions_are_built_once_and_looked_up_after(bus: Bus) -> None:
    first = await _submit(bus, _request(_with_extensions("one", "two")))
    assert isinstance(first, CompileDone)
    assert first.target == "cpu"
    assert [extension.name for extension in first.extensions] == ["one", "two"]
    assert (first.build.recipe, first.build.cache) == ("stock", "miss")
    assert first.build.cpu_s > 0
    for extension in first.extensions:
        source = _SOURCE.replace("NAME", extension.name)
        arguments = {"name": extension.name, "cpp_sources": [source], "no_implicit_headers": True}
        assert extension.call == call_from_load_inline((), arguments).digest()
        module = await Artifacts(bus).get(extension.artifact)
        assert len(module) == extension.size
        assert f"PyInit_{extension.name}".encode() in module

    again = await _submit(
        bus, _request(_with_extensions("two") + "# another candidate, one build of the first")
    )
    assert isinstance(again, CompileDone)
    assert (again.build.cache, again.build.cpu_s) == ("hit", 0)
    assert again.extensions == first.extensions[1:]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("compiler")
async def test_a_compile_error_is_a_verdict_with_diagnostics_and_is_remembered(bus: Bus) -> None:
    candidate = _with_extensions("broken", source="int f() { return missing_name; }")
    first, second = [await _submit(bus, _request(candidate)) for _ in range(2)]
    assert isinstance(first, EvalDone)
    assert isinstance(second, EvalDone)
    assert first.verdict is Verdict.COMPILE_ERROR
    assert (first.stage, first.valid, first.compiled) == ("compile", True, False)
    assert "missing_name" in first.message
    assert "missing_name" in first.log
    assert [item.file for item in first.build.diagnostics if item.severity == "error"] == ["main.cpp"]
    assert (first.build.cache, second.build.cache) == ("miss", "hit")
    assert (second.message, second.log) == (first.message, first.log)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("compiler")
async def test_a_build_without_time_is_a_compile_timeout(bus: Bus) -> None:
    request = _request(_with_extensions("slow", source=_SLOW_TO_COMPILE + _SOURCE), compile_timeout_s=0.5)
    event = await _submit(bus, request)
    assert isinstance(event, EvalDone)
    assert event.verdict is Verdict.COMPILE_TIMEOUT
    assert event.message == "extension `slow`: the build took longer than 0.5 s"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("compiler")
async def test_refused_flags_and_the_wrong_device_are_format_errors(bus: Bus) -> None:
    flags = f"{_HEAD}load_inline('a', '', extra_cflags=['-fplugin=/x.so'])\n{_MODEL}"
    event = await _submit(bus, _request(flags))
    assert isinstance(event, EvalDone)
    assert event.verdict is Verdict.FORMAT_ERROR
    assert "`-fplugin=/x.so` is not allowed" in event.message
    cuda = f"{_HEAD}load_inline('a', '', 'x')\n{_MODEL}"
    event = await _submit(bus, _request(cuda, device="cpu"))
    assert isinstance(event, EvalDone)
    assert event.verdict is Verdict.FORMAT_ERROR
    assert "device=cpu" in event.message


async def test_a_compiler_says_that_it_lives_and_that_it_leaves(bus: Bus) -> None:
    from keck.fleet import Fleet

    fleet = Fleet(bus)
    await fleet.start()
    stop = asyncio.Event()
    serving = asyncio.create_task(_serve(bus, stop, Settings(worker="alive", compiler_cpus=1)))
    assert await fleet.wait_for(lambda seen: bool(seen.live("compiler")), 10)
    (beat,) = fleet.live("compiler")
    assert (beat.worker, beat.slots, beat.state) == (
        "alive",
        slots_of(Settings(compiler_cpus=1)),
        "ready",
    )
    assert beat.facts["torch"]
    stop.set()
    await serving
    assert await fleet.wait_for(lambda seen: not seen.live("compiler"), 5)
    await fleet.stop()
