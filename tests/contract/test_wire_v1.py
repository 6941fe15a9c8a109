"""Version 1 of the wire: bytes written by a release must be read, with the same meaning, for ever.

The golden files hold each event as it goes on the bus and, beside it, the JSON that HTTP shows. They are
written once, for a new event or case, and never again for one that was released::

    python tests/contract/test_wire_v1.py        # writes those that are missing
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from keck.errors import BadRequest
from keck.messages import (
    MAX_SOURCE_BYTES,
    BuildRecord,
    CheckCancel,
    CheckProgress,
    CheckRequested,
    CompileDone,
    Correctness,
    Diagnostic,
    Durations,
    EvalDone,
    Event,
    EventsMs,
    Extension,
    Finding,
    Flag,
    Hashes,
    Heartbeat,
    Interval,
    KernelFacts,
    Lint,
    NullAnswer,
    Options,
    Profile,
    Provenance,
    RanKernel,
    RanOperation,
    Reading,
    ReplayProgress,
    Source,
    Timing,
    Tolerance,
    decode,
    encode,
    to_json,
    verdict_of,
)
from keck.verdict import Verdict

GOLDEN = Path(__file__).parent / "golden" / "v1"

_OPTIONS = Options(
    device="cuda",
    arch="9.0",
    tolerance="keck",
    atol=0.5,
    rtol=0.25,
    correctness_sets=3,
    timed_calls=50,
    compile_timeout_s=120.0,
    exec_timeout_s=30.0,
    policy="custom-only",
    profile=True,
)
_REQUEST = CheckRequested(
    check_id="018f2c",
    run="train-7",
    generation=2,
    lane="interactive",
    kind="kernel",
    candidate="class ModelNew: ...  # größer\n",
    reference="class Model: ...\n",
    options=_OPTIONS,
    deadline=1_800_003_600.5,
    submitted_at=1_800_000_000.25,
)
_BUILD = BuildRecord(
    recipe="fast",
    cache="miss",
    cpu_s=21.5,
    wall_s=24.25,
    peak_memory_bytes=1_500_000_000,
    arch="9.0",
    toolchain={"nvcc": "13.0.88", "gcc": "12.2.0"},
    diagnostics=[
        Diagnostic(file="kernel.cu", line=3, column=9, severity="warning", text="variable was never used")
    ],
    ptxas=[
        KernelFacts(
            kernel="add_one",
            arch="sm_90",
            registers=16,
            shared_bytes=0,
            spill_store_bytes=0,
            spill_load_bytes=8,
        )
    ],
)
_COMPILED = CompileDone(
    check_id="018f2c",
    run="train-7",
    generation=2,
    lane="interactive",
    kind="kernel",
    target="sm90",
    candidate=Source(sha256="aa" * 32, size=31, text=_REQUEST.candidate),
    reference=Source(sha256="bb" * 32, size=70_000, text=None),
    options=_OPTIONS,
    deadline=_REQUEST.deadline,
    submitted_at=_REQUEST.submitted_at,
    compiled_at=1_800_000_025.0,
    compile_s=24.5,
    attempts=1,
    extensions=[Extension(name="add_one", call="cc" * 32, artifact="dd" * 32, size=123_456)],
    build=_BUILD,
)
_PASSED = verdict_of(
    _COMPILED,
    Verdict.PASSED,
    stage="done",
    message="correct, 1.09 times the reference",
    log="a line\n",
    correctness=Correctness(
        calls_checked=205,
        max_abs_err=0.0,
        max_rel_err=0.0,
        mismatched=0,
        total=2_097_152,
        tolerance=Tolerance(atol=1e-4, rtol=1e-4),
        weights="copied",
    ),
    timing=Timing(
        device="cuda",
        batch="burst",
        candidate_ms=Interval(median=0.0084, ci95=(0.0083, 0.0085), n=100),
        reference_ms=Interval(median=0.0092, ci95=(0.0091, 0.0093), n=100),
        events_ms=EventsMs(candidate=0.0083, reference=0.0091),
        baseline="eager",
        uncertainty_ms=0.0001,
        speedup=1.09,
        speedup_lower=1.06,
        noise=0.01,
    ),
    flags=[Flag(code="delegation.library", severity="info", evidence="cublas")],
    profile=Profile(torch="table", cuda="table"),
    durations_s=Durations(queued=0.5, compile=24.5, gpu_held=1.25, total=27.0),
    attempts=2,
    seeds="ee" * 16,
    hashes=Hashes(candidate="aa" * 32, reference="bb" * 32, artifact="dd" * 32),
    environment={"gpu": "NVIDIA H100", "clocks_mhz": 1980.0, "sandbox": None},
)
_FINDING = Finding(code="delegation.library", file="add_one.cu", line=3, snippet="#include <cublas_v2.h>")
_READING = Reading(
    findings=[_FINDING],
    kernels=["add_one"],
    triton=["add_two"],
    namespaces=["own"],
    library_calls=["cublasSgemm"],
)
_PROVENANCE = Provenance(
    device="cuda",
    state="traced",
    why="",
    kernels=[
        RanKernel(name="add_one", count=1, total_us=2.5, origin="own"),
        RanKernel(name="sgemm", count=2, total_us=97.5, origin="library", launched_by="aten::mm"),
    ],
    operations=[RanOperation(name="aten::mm", count=2, total_us=11.0)],
    own_calls=[RanOperation(name="own.add_one", count=1, total_us=7.25)],
    defines=["add_one"],
    findings=[_FINDING],
)
_LINTED = verdict_of(
    msgspec.structs.replace(_COMPILED, kind="lint", candidate=_COMPILED.reference, extensions=[]),
    Verdict.PASSED,
    stage="done",
    message="correct; timing was not asked for",
    correctness=Correctness(
        calls_checked=7,
        max_abs_err=0.0,
        max_rel_err=0.0,
        mismatched=0,
        total=2_097_152,
        tolerance=Tolerance(atol=1e-2, rtol=1e-2),
        weights="none",
        comparison="scaled",
        oracle="fp64",
    ),
    flags=[Flag(code="weak_task", severity="warn", evidence="answers that compute nothing pass: input 0")],
    durations_s=Durations(queued=0.5, compile=0.25, gpu_held=0.125, total=1.0),
    seeds="ee" * 16,
    hashes=Hashes(candidate="bb" * 32, reference="bb" * 32, artifact=""),
    lint=Lint(
        weak=True,
        comparison="scaled",
        answers=[
            NullAnswer(
                output=0,
                answer="zeros",
                passes=True,
                passes_scaled=False,
                passes_stress=False,
                max_abs_err=0.00390625,
                of_allowed=0.375,
            ),
            NullAnswer(output=1, answer="bf16_operands", passes=False, max_abs_err=0.5, of_allowed=40.0),
        ],
        repeat_max_abs_err=0.0,
        stress_inputs=True,
        oracle="fp64",
        own_rms_err=1.1920928955078125e-07,
        sets=3,
    ),
)
EVENTS: dict[str, Event] = {
    "check.requested": _REQUEST,
    "check.requested-defaults": CheckRequested(
        check_id="a", candidate="", reference="", deadline=2.0, submitted_at=1.0
    ),
    "compile.done": _COMPILED,
    "compile.done-reading": msgspec.structs.replace(_COMPILED, reading=_READING),
    "eval.done-passed": _PASSED,
    "eval.done-hack_detected": verdict_of(
        _COMPILED,
        Verdict.HACK_DETECTED,
        stage="done",
        message="correct, but not what the policy `custom-only` allows",
        correct=True,
        flags=[Flag(code="delegation.library", severity="reject", evidence="cublas")],
        durations_s=Durations(total=3.0),
        provenance=_PROVENANCE,
    ),
    "eval.done-lint": _LINTED,
    "eval.done-compile_error": verdict_of(
        _REQUEST,
        Verdict.COMPILE_ERROR,
        stage="compile",
        message="nvcc: error",
        build=_BUILD,
        durations_s=Durations(total=3.0),
    ),
    "eval.done-infra_error": verdict_of(
        _REQUEST,
        Verdict.INFRA_ERROR,
        stage="format",
        message="the workers that had it were lost",
        failure_kind="worker_lost",
        durations_s=Durations(total=3.0),
        attempts=3,
    ),
    "check.progress": CheckProgress(
        check_id="018f2c",
        run="train-7",
        generation=2,
        stage="compiled",
        message="built in 24.5 s",
        at=1_800_000_025.0,
        worker="host-1",
        target="sm90",
    ),
    "eval.done-rescored": msgspec.structs.replace(_PASSED, generation=3, rescored_from=2),
    "check.cancel": CheckCancel(check_id="018f2c", run="train-7", generation=2, reason="the step is over"),
    "replay.progress": ReplayProgress(
        generation=1,
        read=6,
        made=4,
        known=1,
        unreadable=1,
        last_sequence=17,
        changed={"passed > hack_detected": 2},
        finished=False,
        error="NATS did not answer",
    ),
    "worker.heartbeat": Heartbeat(
        worker="host-1",
        role="executor",
        host="host",
        pid=1,
        version="0.1.0",
        started_at=1_800_000_000.0,
        at=1_800_000_002.0,
        slots=1,
        busy=1,
        cpus=16,
        target="sm90",
        arch="9.0",
        state="quarantined",
        facts={"gpu": "NVIDIA H100", "memory_mib": 81_559.0, "driver": None},
    ),
}
CASES = pytest.mark.parametrize("case", EVENTS)


def _kind(case: str) -> Any:
    return type(EVENTS[case])


def _golden(case: str) -> bytes:
    return (GOLDEN / f"{case}.msgpack").read_bytes()


def _golden_json(case: str) -> Any:
    return json.loads((GOLDEN / f"{case}.json").read_text())


def test_every_event_and_no_other_has_a_golden_file() -> None:
    tags = {event.__struct_config__.tag for event in get_args(Event)}
    assert {case.split("-")[0] for case in EVENTS} == tags
    assert {path.stem for path in GOLDEN.iterdir()} == set(EVENTS)


@CASES
def test_released_bytes_are_read_with_the_same_meaning(case: str) -> None:
    assert decode(_golden(case), _kind(case)) == EVENTS[case]


@CASES
def test_released_fields_are_still_shown_with_the_same_values(case: str) -> None:
    shown = json.loads(to_json(decode(_golden(case), _kind(case))))
    _assert_within(_golden_json(case), shown)


@CASES
def test_the_json_form_says_as_much_as_the_bytes(case: str) -> None:
    event = EVENTS[case]
    assert msgspec.json.decode(to_json(event), type=_kind(case)) == event


@CASES
def test_every_field_is_written_also_where_it_does_not_apply(case: str) -> None:
    event = EVENTS[case]
    _assert_complete(event, json.loads(to_json(event)))
    _assert_complete(event, msgspec.msgpack.decode(encode(event)))


@CASES
def test_fields_of_a_later_minor_version_are_ignored(case: str) -> None:
    event = EVENTS[case]
    newer = _with_unknown_fields(msgspec.msgpack.decode(_golden(case)))
    assert decode(msgspec.msgpack.encode(newer), _kind(case)) == event


@CASES
@pytest.mark.parametrize("change", [{"type": "something.else"}, {"type": None}, {"v": 2}, {"v": "1"}])
def test_another_tag_or_version_is_refused(case: str, change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(_golden(case)) | change
    with pytest.raises(BadRequest):
        decode(msgspec.msgpack.encode(raw), _kind(case))


@CASES
def test_an_event_of_another_kind_is_refused_by_name(case: str) -> None:
    other: Any = EvalDone if not isinstance(EVENTS[case], EvalDone) else CheckRequested
    with pytest.raises(BadRequest, match=r"expected a .* event, got"):
        decode(_golden(case), other)


@CASES
def test_bytes_cut_short_are_refused(case: str) -> None:
    with pytest.raises(BadRequest):
        decode(_golden(case)[:-1], _kind(case))


@pytest.mark.parametrize(
    "change",
    [
        {"check_id": "two tokens"},
        {"check_id": "a.b"},
        {"check_id": ""},
        {"run": "*"},
        {"run": "x" * 65},
        {"lane": "express"},
        {"candidate": "x" * (MAX_SOURCE_BYTES + 1)},
        {"generation": -1},
        {"options": {"correctness_sets": 0}},
    ],
    ids=str,
)
def test_a_request_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(_golden("check.requested")) | change
    with pytest.raises(BadRequest):
        decode(msgspec.msgpack.encode(raw), CheckRequested)


def test_a_verdict_that_says_nothing_of_the_candidate_shows_null() -> None:
    shown = _golden_json("eval.done-infra_error")
    assert shown["mask_sample"] is True
    assert shown["valid"] is False
    for field in ("compiled", "correct", "correctness", "timing", "profile"):
        assert shown[field] is None


def _assert_within(released: Any, shown: Any) -> None:
    if isinstance(released, dict):
        assert released.keys() <= shown.keys()
        for key, value in released.items():
            _assert_within(value, shown[key])
    elif isinstance(released, list):
        assert len(released) == len(shown)
        for old, new in zip(released, shown, strict=True):
            _assert_within(old, new)
    else:
        assert released == shown


def _assert_complete(value: Any, shown: Any) -> None:
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            assert field.encode_name in shown
            _assert_complete(getattr(value, field.name), shown[field.encode_name])
    elif isinstance(value, list):
        for item, shown_item in zip(value, shown, strict=True):
            _assert_complete(item, shown_item)


def _with_unknown_fields(raw: Any, *, free_keys: bool = False) -> Any:
    """The same with a field that no reader knows in every struct; maps with free keys are left alone."""
    if isinstance(raw, list):
        return [_with_unknown_fields(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    free = {"facts", "environment", "toolchain", "changed"}
    inner = {key: _with_unknown_fields(value, free_keys=key in free) for key, value in raw.items()}
    return inner if free_keys else inner | {"from_a_later_version": {"nested": [1]}}


def _write_missing() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for case, event in EVENTS.items():
        binary, text = GOLDEN / f"{case}.msgpack", GOLDEN / f"{case}.json"
        if not binary.exists():
            binary.write_bytes(encode(event))
            text.write_text(json.dumps(json.loads(to_json(event)), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _write_missing()
