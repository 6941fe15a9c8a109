"""What each policy makes of a provenance; pure functions of what a verdict stores."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keck.flag_codes import CODES, PolicyName, severity_of
from keck.messages import (
    Durations,
    EvalDone,
    Finding,
    Flag,
    Provenance,
    RanKernel,
    RanOperation,
    decode,
    encode,
    verdict_of,
)
from keck.policy import is_glue, policy_flags, rejection, rescored
from keck.testing import sample_compile_done
from keck.verdict import Verdict

EVENT = sample_compile_done()
POLICIES: tuple[PolicyName, ...] = ("library-allowed", "custom-only")


def _ran(name: str, us: float = 10.0, count: int = 1) -> RanOperation:
    return RanOperation(name=name, count=count, total_us=us)


def _kernel(name: str, origin: Any, us: float = 10.0, launched_by: str = "") -> RanKernel:
    return RanKernel(name=name, count=1, total_us=us, origin=origin, launched_by=launched_by)


def _cpu(*operations: RanOperation, own: tuple[RanOperation, ...] = (), **more: Any) -> Provenance:
    return Provenance(device="cpu", state="traced", operations=list(operations), own_calls=list(own), **more)


def _cuda(*kernels: RanKernel, **more: Any) -> Provenance:
    return Provenance(device="cuda", state="traced", kernels=list(kernels), **more)


def _severities(provenance: Provenance, policy: PolicyName) -> dict[str, str]:
    flags = policy_flags(provenance, policy)
    assert len({flag.code for flag in flags}) == len(flags)
    assert all(flag.evidence for flag in flags)
    return {flag.code: flag.severity for flag in flags}


GLUE = [_ran(f"aten::{name}") for name in ("empty", "view", "contiguous", "zeros", "copy_", "fill_")]
OWN = (_ran("ext.relu"),)


@pytest.mark.parametrize(
    ("provenance", "allowed", "custom"),
    [
        (_cpu(*GLUE, own=OWN), {}, {}),
        (
            _cpu(*GLUE, _ran("aten::relu")),
            {"provenance.no_own_kernel": "info", "delegation.aten": "info"},
            {"provenance.no_own_kernel": "reject", "delegation.aten": "reject"},
        ),
        (_cpu(_ran("aten::add", 1.0), own=OWN), {"delegation.aten": "info"}, {"delegation.aten": "warn"}),
        (
            _cpu(_ran("aten::mm", 990.0), own=OWN),
            {"delegation.aten": "info", "provenance.decoy_kernel": "warn"},
            {"delegation.aten": "reject", "provenance.decoy_kernel": "warn"},
        ),
        (
            _cpu(_ran("aten::mm"), defines=["ext"]),
            {"provenance.no_own_kernel": "info", "delegation.aten": "info", "provenance.decoy_kernel": "warn"},
            {"provenance.no_own_kernel": "reject", "delegation.aten": "reject", "provenance.decoy_kernel": "warn"},
        ),
        (
            _cpu(_ran("Torch-Compiled Region: 0/0"), own=OWN),
            {"delegation.torch_compile": "info"},
            {"delegation.torch_compile": "warn"},
        ),
        (_cuda(_kernel("relu_kernel(float*)", "own")), {}, {}),
        (_cuda(_kernel("relu_kernel", "triton"), _kernel("Memcpy DtoD", "unknown", 99.0)), {}, {}),
        (
            _cuda(_kernel("relu_kernel", "own", 1.0), _kernel("void at::native::fill", "aten", 9.0, "aten::fill_")),
            {},
            {},
        ),
        (
            _cuda(_kernel("own", "own", 1.0), _kernel("ampere_sgemm_128x64_nn", "library", 9.0)),
            {"delegation.library": "info"},
            {"delegation.library": "reject"},
        ),
        (
            _cuda(_kernel("triton_poi_fused_relu_0", "inductor")),
            {"provenance.no_own_kernel": "info", "delegation.torch_compile": "info"},
            {"provenance.no_own_kernel": "reject", "delegation.torch_compile": "reject"},
        ),
        (  # perhaps built at run time: nobody can say that it is not the candidate's
            _cuda(_kernel("somebody's", "unknown")),
            {"provenance.no_own_kernel": "info"},
            {"provenance.no_own_kernel": "warn"},
        ),
        (
            Provenance(device="cuda", state="unavailable", why="no CUPTI"),
            {"provenance.unavailable": "info"},
            {"provenance.unavailable": "warn"},
        ),
        (Provenance(device="cuda", state="not_asked"), {}, {}),
    ],
)  # fmt: skip
def test_each_policy_weighs_what_ran(
    provenance: Provenance, allowed: dict[str, str], custom: dict[str, str]
) -> None:
    assert _severities(provenance, "library-allowed") == allowed
    assert _severities(provenance, "custom-only") == custom


@pytest.mark.parametrize("code", sorted(code for code, known in CODES.items() if known.by_policy))
def test_what_only_the_text_suggests_is_information(code: str) -> None:
    finding = Finding(code=code, file="candidate.py", line=3, snippet="the line")
    for policy in POLICIES:
        seen = Provenance(device="cpu", state="not_asked", findings=[finding] * 9)
        (flag,) = policy_flags(seen, policy)
        assert (flag.code, flag.severity) == (code, "info")
        assert "candidate.py:3: the line" in flag.evidence
        assert rejection([flag], policy) is None


def test_text_and_trace_make_one_flag_with_the_evidence_of_both() -> None:
    finding = Finding(code="delegation.aten", file="candidate.py", line=3, snippet="x @ y")
    (flag,) = (
        flag
        for flag in policy_flags(_cpu(_ran("aten::mm"), findings=[finding]), "custom-only")
        if flag.code == "delegation.aten"
    )
    assert flag.severity == "reject"
    assert "x @ y" in flag.evidence
    assert "aten::mm" in flag.evidence


def test_a_finding_of_another_code_is_not_this_policys() -> None:
    findings = [
        Finding(code=code, file="a", line=1, snippet="")
        for code in ("timing.single_calls", "of.a.later.version")
    ]
    assert policy_flags(Provenance(device="cpu", state="not_asked", findings=findings), "custom-only") == []


def test_glue_is_memory_and_no_arithmetic() -> None:
    assert all(is_glue(operation.name) for operation in GLUE)
    assert not any(map(is_glue, ("aten::mm", "aten::add", "aten::relu_", "own::view", "aten::sum")))


def test_a_rejection_names_the_policy_and_the_evidence() -> None:
    seen = _cpu(_ran("aten::mm"))
    reason = rejection(policy_flags(seen, "custom-only"), "custom-only")
    assert reason is not None
    assert "`custom-only`" in reason
    assert "`aten::mm` (1)" in reason
    assert "\n" not in reason
    assert rejection(policy_flags(seen, "library-allowed"), "library-allowed") is None
    # A rejection that others decide on is not this policy's.
    assert rejection([Flag(code="other", severity="reject", evidence="x")], "custom-only") is None


NAMES = st.sampled_from(["aten::mm", "aten::view", "own", "x" * 200, "Memcpy", "Torch-Compiled Region: 0/0"])
TIMES = st.floats(0, 1e9)
PROVENANCES = st.builds(
    Provenance,
    device=st.sampled_from(["cpu", "cuda"]),
    state=st.sampled_from(["traced", "unavailable", "not_asked"]),
    why=st.text(max_size=20),
    kernels=st.lists(
        st.builds(
            RanKernel,
            name=NAMES,
            count=st.integers(0, 9),
            total_us=TIMES,
            origin=st.sampled_from(["own", "triton", "library", "aten", "inductor", "unknown"]),
            launched_by=st.sampled_from(["", "aten::fill_", "aten::mm"]),
        ),
        max_size=5,
    ),
    operations=st.lists(st.builds(RanOperation, name=NAMES, count=st.integers(0, 9), total_us=TIMES), max_size=5),
    own_calls=st.lists(st.builds(RanOperation, name=NAMES, count=st.integers(0, 9), total_us=TIMES), max_size=2),
    defines=st.lists(st.text(max_size=5), max_size=2),
    findings=st.lists(
        st.builds(
            Finding,
            code=st.sampled_from(sorted(CODES)),
            file=st.just("a"),
            line=st.integers(1, 9),
            snippet=st.text(max_size=200),
        ),
        max_size=4,
    ),
)  # fmt: skip


def _done(provenance: Provenance | None, policy: PolicyName, **more: Any) -> EvalDone:
    """A verdict as the executor makes it."""
    event = EVENT
    event = msgspec.structs.replace(event, options=msgspec.structs.replace(event.options, policy=policy))
    flags = policy_flags(provenance, policy) if provenance is not None else []
    reason = rejection(flags, policy)
    fields: dict[str, Any] = {
        "flags": flags,
        "provenance": provenance,
        "stage": "done",
        "correct": True,
        "durations_s": Durations(),
        "message": reason or "correct; timing was not asked for",
    }
    verdict = Verdict.HACK_DETECTED if reason else Verdict.PASSED
    return verdict_of(event, fields.pop("verdict", verdict), **(fields | more))


@given(PROVENANCES, st.sampled_from(POLICIES), st.sampled_from(POLICIES))
def test_scoring_again_gives_what_judging_under_that_policy_would_have_given(
    provenance: Provenance, judged_under: PolicyName, policy: PolicyName
) -> None:
    stored = decode(encode(_done(provenance, judged_under)), EvalDone)
    assert rescored(stored, policy) == _done(provenance, policy)
    assert rescored(rescored(stored, policy), judged_under) == stored


@given(PROVENANCES)
def test_no_flag_rejects_where_libraries_are_allowed(provenance: Provenance) -> None:
    assert all(flag.severity != "reject" for flag in policy_flags(provenance, "library-allowed"))


def test_scoring_again_leaves_other_verdicts_as_they_are() -> None:
    seen = _cpu(_ran("aten::mm"))
    other = Flag(code="other", severity="reject", evidence="forged a result")
    hacked = msgspec.structs.replace(
        _done(seen, "custom-only"), flags=[other], verdict=Verdict.HACK_DETECTED, message="forged"
    )
    again = rescored(hacked, "library-allowed")
    assert (again.verdict, again.message, again.flags[0]) == (Verdict.HACK_DETECTED, "forged", other)
    wrong = verdict_of(
        sample_compile_done(), Verdict.WRONG_RESULT, stage="correctness", message="wrong", provenance=seen
    )
    assert rescored(wrong, "custom-only").verdict is Verdict.WRONG_RESULT
    before_provenance = _done(None, "library-allowed")
    assert rescored(before_provenance, "custom-only").verdict is Verdict.PASSED


def test_a_severity_is_never_above_what_the_evidence_bears() -> None:
    assert severity_of("delegation.aten", "custom-only") == "reject"
    assert severity_of("delegation.aten", "custom-only", at_most="warn") == "warn"
    assert severity_of("delegation.aten", "library-allowed", at_most="warn") == "info"
