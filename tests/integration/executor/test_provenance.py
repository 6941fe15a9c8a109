"""What the traced call shows through a real judge and real runners, and that nothing in it changes a verdict."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from keck.messages import Finding, Options, Provenance, Reading
from keck.policy import policy_flags
from keck.verdict import Verdict
from keck_cell import call_from_load_inline

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

CUSTOM_ONLY = Options(timed_calls=0, correctness_sets=2, policy="custom-only")
# A candidate that does something only once the correctness calls are over: the traced call is the third.
_THIRD = """
import os, time, torch
class ModelNew(torch.nn.Module):
    calls = 0
    def forward(self, x):
        ModelNew.calls += 1
        if ModelNew.calls > 2:
            {}
        return x * 2 + 1
"""


async def _provenance(bench: Any, candidate: str, **options: Any) -> Provenance:
    outcome = (await bench.check(candidate, **({"options": CUSTOM_ONLY} | options))).outcome
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.provenance is not None
    found: Provenance = outcome.provenance
    return found


async def test_operators_that_ran_are_told_with_their_counts(bench: Any) -> None:
    seen = await _provenance(bench, "y = x * 2\nreturn (y + 1).view(16, 8)")
    assert (seen.state, seen.device) == ("traced", "cpu")
    counts = {operation.name: operation.count for operation in seen.operations}
    assert (counts["aten::mul"], counts["aten::add"], counts["aten::view"]) == (1, 1, 1)
    assert seen.own_calls == []
    codes = {flag.code: flag.severity for flag in policy_flags(seen, "custom-only")}
    assert codes == {"provenance.no_own_kernel": "reject", "delegation.aten": "reject"}


async def test_no_trace_is_taken_unless_something_asks(bench: Any) -> None:
    seen = await _provenance(bench, "return x * 2 + 1", options=Options(timed_calls=0))
    assert (seen.state, seen.operations) == ("not_asked", [])
    asking = Reading(
        findings=[Finding(code="fallback.try_except", file="candidate.py", line=3, snippet="except")]
    )
    seen = await _provenance(bench, "return x * 2 + 1", options=Options(timed_calls=0), reading=asking)
    assert seen.state == "traced"
    assert seen.findings == asking.findings


@pytest.mark.parametrize(
    ("doing", "told"),
    [
        ("os._exit(3)", "the candidate's process ended"),
        ("raise ValueError('not now')", "not like the others: calling forward: ValueError: not now"),
        ("return x", "not like the others"),
        ("return x[:1]", "not like the others"),
        ("torch.autograd.profiler.profile = None", ""),
        ("os.kill(os.getpid(), 11)", "the candidate's process ended"),
    ],
)
async def test_whatever_happens_in_the_traced_call_the_candidate_has_passed(
    bench: Any, doing: str, told: str
) -> None:
    seen = await _provenance(bench, _THIRD.format(doing))
    if told:
        assert seen.state == "unavailable"
        assert told in seen.why
        assert [flag.severity for flag in policy_flags(seen, "library-allowed")] == ["info"]


async def test_a_traced_call_that_does_not_end_costs_its_own_seconds_only(bench: Any) -> None:
    seen = await _provenance(bench, _THIRD.format("while True: pass"))
    assert seen.state == "unavailable"
    assert "longer than" in seen.why


@pytest.mark.parametrize(
    "lines",
    [
        "b'K 1 1'",
        "b'O 1 -1\\taten::mm\\t\\n'",
        "b'O 1 1\\tname\\nC 1 1\\tx\\t\\n'",
        "b'O 1 1\\t\\xff\\t\\n'",
        "b'\\n' * 300",
    ],
)
async def test_a_forged_trace_is_refused(bench: Any, lines: str) -> None:
    forging = f"""
import sys, torch
serve = sys.modules["keck_executor.runner.serve"]
serve.pack_trace = lambda lines: {lines}
class ModelNew(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1
"""
    seen = await _provenance(bench, forging)
    assert seen.state == "unavailable"
    assert "cannot be read" in seen.why


_EXTENSION = r"""
#include <Python.h>
static PyObject *twice_and_one(PyObject *, PyObject *args) {
    unsigned long long from, to; Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "KKn", &from, &to, &count)) return nullptr;
    for (Py_ssize_t i = 0; i < count; ++i) ((float *)to)[i] = ((float *)from)[i] * 2 + 1;
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"twice_and_one", twice_and_one, METH_VARARGS, ""}, {}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "own", nullptr, -1, methods};
PyMODINIT_FUNC PyInit_own() { return PyModule_Create(&module); }
"""
_WITH_EXTENSION = """
import torch
from torch.utils.cpp_extension import load_inline
own = load_inline("own", "any text")
class ModelNew(torch.nn.Module):
    def forward(self, x):
        {}
"""
_IN_A_THREAD = """import threading; y = torch.empty_like(x)
        thread = threading.Thread(target=own.twice_and_one, args=(x.data_ptr(), y.data_ptr(), x.numel()))
        thread.start(); thread.join(); return y"""
_OWN_CALL = "y = torch.empty_like(x); own.twice_and_one(x.data_ptr(), y.data_ptr(), x.numel()); "


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A real shared object, as the candidate's call finds it again."""
    directory = tmp_path_factory.mktemp("extension")
    source, built = directory / "own.cpp", directory / "own.so"
    source.write_text(_EXTENSION)
    include = sysconfig.get_paths()["include"]
    subprocess.run(["c++", "-shared", "-fPIC", f"-I{include}", "-o", built, source], check=True)
    return call_from_load_inline(("own", "any text"), {}).digest(), built


@pytest.mark.parametrize(
    ("forward", "codes"),
    [
        (_OWN_CALL + "return y.view(16, 8).contiguous()", {}),
        (_IN_A_THREAD, {}),
        (
            "return x * 2 + 1",
            {
                "provenance.no_own_kernel": "reject",
                "provenance.decoy_kernel": "warn",
                "delegation.aten": "reject",
            },
        ),
        (
            _OWN_CALL + "a = torch.rand(300, 300); a @ a; return y",
            {"provenance.decoy_kernel": "warn", "delegation.aten": "reject"},
        ),
    ],
    ids=["glue", "in a thread", "never called", "called and of no use"],
)
async def test_an_extensions_calls_are_the_candidates_own_work(
    bench: Any, extension: tuple[str, Path], forward: str, codes: dict[str, str]
) -> None:
    seen = await _provenance(bench, _WITH_EXTENSION.format(forward), extensions=[extension])
    assert seen.state == "traced"
    assert [call.name for call in seen.own_calls] == ["own.twice_and_one"] * forward.count("own.")
    assert seen.defines == ["own"]
    assert {flag.code: flag.severity for flag in policy_flags(seen, "custom-only")} == codes
