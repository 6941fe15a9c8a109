"""Every candidate of ``tests/kernels`` through the whole system, judged as its ``case.toml`` says.

All cases are submitted at once, so that stages and processes work side by side as they do in use; each test
then awaits its own verdict. Builds are real, so the first minutes belong to the compiler.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from keck import CheckProgress, Client, EvalDone
from keck.embedded import Embedded, devices_here
from keck.flag_codes import CODES
from keck.messages import to_json

CORPUS = Path(__file__).parents[1] / "kernels"
GPUS = [device for device in devices_here() if device.startswith("cuda")]
VERDICT_WITHIN_S = 1200.0
SETTINGS = {
    "COMPILER_CPUS": "1",  # as many builds at once as there are cores
    "COMPILE_TIMEOUT": "900",  # machines that run tests are slow and busy
    "KECK_RECORD_TIMEOUT": "300",
    "KECK_RUNNER_MEMORY": str(3 << 30),  # so that a hog ends before the machine does
}
# Enough calls for every kind of call to occur; timing itself is tested elsewhere.
OPTIONS = {"correctness_sets": 3, "timed_calls": 10}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(VERDICT_WITHIN_S + 60),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder of the corpus."""

    name: str
    candidate: str
    reference: str
    expect: tuple[str, ...]
    device: str
    note: str
    kind: str = "kernel"
    options: Mapping[str, Any] = field(default_factory=dict)
    stage: str | None = None
    """The furthest stage reached."""
    message_contains: str | None = None
    log_contains: str | None = None
    weights: str | None = None
    flags: tuple[str, ...] = ()
    """Codes that the verdict must have among its flags."""
    no_flags: tuple[str, ...] = ()
    """Codes that it must not have."""
    speedup_below: float | None = None
    """Passing must not have gained more than this."""
    compile_only: bool = False
    """Where no GPU is, getting as far as `compiled` is what is asked for."""
    pad_to_bytes: int = 0
    """Length to bring the candidate to with comment lines."""
    family: tuple[str, ...] = ()
    """Ids of ``tests/kernels/families.toml``: the ways to cheat that this is a case of, or the honest twin of."""
    caught_by: str = ""
    """What of Keck makes the cheat fail, in a few words; begins with "not caught" where nothing does."""
    awaits: str = ""
    """What has to be built before the expectation can hold."""


def load_case(folder: Path) -> Case:
    """Read one folder; an unknown key is an error."""
    declared = tomllib.loads((folder / "case.toml").read_text())
    candidate = (folder / declared.pop("candidate", "candidate.py")).read_text()
    reference = (folder / declared.pop("reference", "reference.py")).read_text()
    lists = {key: _listed(declared.pop(key, [])) for key in ("expect", "family", "flags", "no_flags")}
    padding = "# A line that says nothing, as generated files have them.\n"
    missing = declared.get("pad_to_bytes", 0) - len(candidate)
    return Case(
        name=str(folder.relative_to(CORPUS)),
        candidate=candidate + padding * max(0, missing // len(padding) + 1 if missing > 0 else 0),
        reference=reference,
        **lists,
        **declared,
    )


def _listed(value: str | list[str]) -> tuple[str, ...]:
    """A string alone is a list of one."""
    return (value,) if isinstance(value, str) else tuple(value)


CASES = [load_case(file.parent) for file in sorted(CORPUS.glob("*/*/case.toml"))]
NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a CUDA device"))


def judged(*, compile_only: bool) -> list[Any]:
    """The cases as parameters; CUDA ones are marked."""
    return [
        pytest.param(case, id=case.name, marks=_marks(case, compile_only=compile_only))
        for case in CASES
        if case.compile_only or not compile_only
    ]


def _marks(case: Case, *, compile_only: bool) -> list[pytest.MarkDecorator]:
    awaited = [pytest.mark.skip(reason=f"awaits {case.awaits}")] if case.awaits else []
    return [*awaited, *(NEEDS_GPU if case.device == "cuda" and not compile_only else ())]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a system of our own, on every device there is and the CPU."""
    directory = tmp_path_factory.mktemp("corpus")
    async with (
        Embedded(directory=directory, devices=("cpu", *GPUS), settings_env=SETTINGS) as system,
        Client(system.nats_url) as connected,
    ):
        yield connected


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verdicts(
    client: Client, request: pytest.FixtureRequest
) -> AsyncIterator[Mapping[str, asyncio.Task[EvalDone]]]:
    """Every selected case, submitted; by name, what will be its verdict."""
    selected = _selected(request, "test_the_verdict_is_what_the_case_says")
    tasks = {case.name: asyncio.create_task(_judge(client, case)) for case in selected}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("case", judged(compile_only=False))
async def test_the_verdict_is_what_the_case_says(
    case: Case, verdicts: Mapping[str, asyncio.Task[EvalDone]]
) -> None:
    done = await verdicts[case.name]
    evidence = f"{case.note}\n{to_json(done).decode()}"
    assert done.verdict in case.expect, evidence
    assert done.stage == case.stage or case.stage is None, evidence
    assert (case.message_contains or "") in done.message, evidence
    assert (case.log_contains or "") in done.log, evidence
    assert "\n" not in done.message, evidence
    codes = {flag.code for flag in done.flags}
    assert set(case.flags) <= codes, evidence
    assert not set(case.no_flags) & codes, evidence
    if case.weights is not None:
        assert done.correctness is not None, evidence
        assert done.correctness.weights == case.weights, evidence
    if done.verdict == "passed":
        assert done.timing is not None, evidence
        assert done.timing.speedup < (case.speedup_below or 1e6), evidence


@pytest.mark.parametrize("case", judged(compile_only=True))
async def test_a_candidate_for_a_gpu_compiles_where_there_is_none(case: Case, client: Client) -> None:
    async with asyncio.timeout(VERDICT_WITHIN_S):
        async for event in client.follow(
            case.candidate, case.reference, kind=case.kind, options={"device": case.device}
        ):
            assert isinstance(event, CheckProgress), to_json(event).decode()
            if event.stage == "compiled":
                assert event.target.startswith(("cuda", "sm"))
                return
    pytest.fail("the events ended before the candidate was compiled")


async def test_every_case_says_why_it_is_there_and_expects_a_verdict_that_exists() -> None:
    for case in CASES:
        assert case.note, case.name
        assert case.expect, case.name
        assert case.device in ("cpu", "cuda"), case.name
        assert {*case.flags, *case.no_flags} <= set(CODES), case.name
        assert case.name.split("/")[0] != "honest" or case.expect == ("passed",), case.name


async def _judge(client: Client, case: Case) -> EvalDone:
    return await client.check(
        case.candidate,
        case.reference,
        kind=case.kind,
        options={**OPTIONS, "device": case.device, **case.options},
        timeout_s=VERDICT_WITHIN_S,
    )


def _selected(request: pytest.FixtureRequest, test: str) -> list[Case]:
    """The cases that this session will ask for: `-k` must not pay for all the others."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [
        item.callspec.params["case"]
        for item in items
        if item.originalname == test
        and not item.get_closest_marker("skip")
        and not (GPUS == [] and item.get_closest_marker("gpu"))
    ]
