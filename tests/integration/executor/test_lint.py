"""The lint through a real judge and real runners: what it finds of a task, and what then becomes of candidates."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from keck.messages import Lint, Options
from keck.verdict import Verdict
from keck_executor.judge.job import Outcome

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


def task(forward: str, inputs: str, *, construct: str = "pass", more: str = "") -> str:
    """A reference whose ``forward(self, x)`` has this body."""
    return f"""
import torch
import torch.nn.functional as F

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {construct}
    def forward(self, x):
        {forward}

def get_inputs():
    return {inputs}

def get_init_inputs():
    return []
{more}
"""


def twin(reference: str) -> str:
    """The same model as a candidate."""
    return reference.replace("class Model(", "class ModelNew(")


async def judged(
    bench: Any, candidate: str, reference: str, *, sets: int = 3, **options: Any
) -> tuple[Outcome, Lint]:
    """The outcome, and what the lint found."""
    chosen = Options(timed_calls=0, correctness_sets=sets, **options)
    outcome: Outcome = (await bench.check(candidate, reference, options=chosen)).outcome
    assert outcome.lint is not None, outcome
    return outcome, outcome.lint


def flag(outcome: Outcome, code: str) -> str | None:
    """The evidence of a flag."""
    return next((flag.evidence for flag in outcome.flags if flag.code == code), None)


def passing(lint: Lint) -> set[str]:
    """The null answers that the tolerance takes."""
    return {answer.answer for answer in lint.answers if answer.passes and answer.answer != "bf16_operands"}


SOUND = task("return torch.relu(x)", "[torch.randn(64, 512)]")
SOFTMAX = task("return torch.softmax(x, -1)", "[torch.rand(2, 100_000)]")
LOSS = task("return x.square().mean()", "[torch.randn(1_000_000)]")
BIAS = task(
    "return self.bias + 1e-5 * x",
    "[torch.randn(8, 512)]",
    construct="self.bias = torch.nn.Parameter(1e-2 * torch.randn(512))",
)
RELU_OF_POSITIVE = task("return torch.relu(x)", "[torch.rand(64, 512)]")
SINGLETON = task(
    "y = x.max(1, keepdim=True).values; return F.gelu(y - y.mean(1, keepdim=True))", "[torch.randn(512, 16)]"
)
OVER_ONE = task("return torch.softmax(x, 1)", "[torch.randn(512, 1)]")
ROUNDING = task("return torch.softmax(x, -1).sum(-1) - 1", "[torch.randn(512, 300)]")
NO_INPUT = task("return torch.arange(x)", "[5]")


async def test_a_sound_task_stays_with_the_tolerance_and_earns_no_flag(bench: Any) -> None:
    outcome, lint = await judged(bench, "return x.clamp_min(0)", SOUND)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.flags == []
    assert not lint.weak
    assert {answer.answer for answer in lint.answers} == {
        "zeros",
        "constant",
        "another_set",
        "input 0",
        "bf16_operands",
    }
    assert passing(lint) == set()
    assert (lint.comparison, lint.oracle, lint.stress_inputs, lint.repeat_max_abs_err) == (
        "tolerance",
        "fp64",
        None,
        0,
    )
    assert outcome.correctness is not None
    assert (outcome.correctness.comparison, outcome.correctness.oracle) == ("tolerance", "fp64")


@pytest.mark.parametrize(
    ("reference", "empty", "honest", "tolerance"),
    [
        (SOFTMAX, "return torch.zeros_like(x)", "e = torch.exp2(x * 1.4426950408889634); return e / e.sum(-1, keepdim=True)", "kernelbench"),
        (SOFTMAX, "return torch.full_like(x, 1e-5)", "return torch.log_softmax(x, -1).exp()", "kernelbench"),
        (LOSS, "return torch.ones(())", "return x.view(1000, 1000).square().sum(0).sum() / 1_000_000", "keck"),
        (LOSS, "return torch.ones(())", "return torch.dot(x, x) / 1_000_000", "keck"),
    ],
)  # fmt: skip
async def test_where_an_empty_answer_passes_the_tolerance_scale_decides(
    bench: Any, reference: str, empty: str, honest: str, tolerance: str
) -> None:
    outcome, lint = await judged(bench, empty, reference, tolerance=tolerance)
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome
    assert "in units of the output's spread" in outcome.message
    assert lint.comparison == "scaled"
    assert not lint.weak
    assert passing(lint)
    outcome, _ = await judged(bench, honest, reference, tolerance=tolerance)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.flags == []
    assert outcome.correctness is not None
    assert outcome.correctness.comparison == "scaled"


@pytest.mark.parametrize(
    ("reference", "nulls"),
    [
        (RELU_OF_POSITIVE, {"input 0"}),
        (SINGLETON, {"zeros", "constant", "another_set"}),
        (OVER_ONE, {"constant", "another_set"}),
        (ROUNDING, {"zeros", "constant", "another_set"}),
        (NO_INPUT, {"another_set"}),
    ],
)
async def test_an_honest_answer_to_a_weak_task_passes_with_the_flag(
    bench: Any, reference: str, nulls: set[str]
) -> None:
    outcome, lint = await judged(bench, twin(reference), reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.weak
    assert passing(lint) == nulls
    evidence = flag(outcome, "weak_task")
    assert evidence is not None
    assert all(name in evidence for name in nulls)


@pytest.mark.parametrize(
    ("reference", "honest"),
    [
        (SINGLETON, "y = x.amax(1, keepdim=True); return F.gelu(y * 1.000001 - y)"),
        (ROUNDING, "e = x.exp(); return (e / e.sum(-1, keepdim=True)).flip(-1).sum(-1) - 1"),
        (OVER_ONE, "return (x * 0).exp()"),
    ],
)
async def test_rounding_is_nobodys_fault_on_a_constant_task(bench: Any, reference: str, honest: str) -> None:
    candidate = twin(reference).split("def forward")[0] + f"def forward(self, x):\n        {honest}\n"
    outcome, _ = await judged(bench, candidate, reference)
    assert outcome.verdict is Verdict.PASSED, outcome


async def test_what_is_no_answer_at_a_finer_level_is_wrong_on_a_weak_task(bench: Any) -> None:
    """All elements are 5e-5: a constant task, where zeros are within the tolerance and still not the answer."""
    reference = task("return torch.softmax(x, 1) * 5e-5", "[torch.randn(512, 1)]")
    for body, verdict in (
        ("return torch.zeros_like(x)", Verdict.WRONG_RESULT),
        ("return torch.full_like(x, 2e-5)", Verdict.WRONG_RESULT),
        ("return torch.full_like(x, 5e-5) * (1 + 1e-6 * torch.rand_like(x))", Verdict.PASSED),
    ):
        outcome, lint = await judged(bench, body, reference)
        assert outcome.verdict is verdict, outcome
        assert lint.weak
        assert flag(outcome, "weak_task") is not None
        if verdict is Verdict.WRONG_RESULT:
            assert "computes nothing (zeros)" in outcome.message


async def test_a_weak_task_is_told_in_a_failure_too(bench: Any) -> None:
    outcome, _ = await judged(bench, "raise ValueError('after the lint')", RELU_OF_POSITIVE)
    assert outcome.verdict is Verdict.RUNTIME_ERROR
    assert "input 0" in (flag(outcome, "weak_task") or "")


async def test_each_output_is_compared_in_its_own_way(bench: Any) -> None:
    reference = task("return torch.relu(x), torch.softmax(x, -1)", "[torch.rand(2, 100_000) - 0.5]")
    outcome, lint = await judged(bench, twin(reference), reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert {answer.output for answer in lint.answers if answer.passes and answer.answer == "zeros"} == {1}
    wrong = "return torch.relu(x), torch.zeros_like(x)"
    outcome, _ = await judged(bench, wrong, reference)
    assert outcome.verdict is Verdict.WRONG_RESULT
    assert "in output 1" in outcome.message


async def test_an_output_that_hardly_depends_on_the_input_is_compared_between_sets(bench: Any) -> None:
    outcome, lint = await judged(bench, twin(BIAS), BIAS)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert "another_set" in passing(lint)
    assert lint.comparison == "scaled"
    without_input = twin(BIAS).replace("self.bias + 1e-5 * x", "self.bias.expand(8, 512).clone()")
    outcome, _ = await judged(bench, without_input, BIAS)
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome


STRESS = """
def get_stress_inputs():
    return [torch.randn(32, 512) * 100]
"""


async def test_stress_inputs_are_compared_where_a_null_answer_passes(bench: Any) -> None:
    reference = task("return torch.relu(x)", "[torch.rand(64, 512)]", more=STRESS)
    outcome, lint = await judged(bench, "return x.clamp_min(0)", reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.stress_inputs
    assert not lint.weak
    assert [answer.passes_stress for answer in lint.answers if answer.answer == "input 0"] == [False]
    assert outcome.correctness is not None
    assert outcome.correctness.calls_checked == 5
    assert len(outcome.seeds.split(",")) == 5
    outcome, _ = await judged(bench, "return x.clone()", reference)
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome


async def test_stress_inputs_of_a_sound_task_are_not_asked_for(bench: Any) -> None:
    reference = task(
        "return torch.relu(x)", "[torch.randn(64, 512)]", more=STRESS.replace("return", "1 / 0; return")
    )
    outcome, lint = await judged(bench, "return x.clamp_min(0)", reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.stress_inputs is None


async def test_stress_inputs_that_raise_are_the_tasks_fault(bench: Any) -> None:
    reference = task(
        "return torch.relu(x)", "[torch.rand(64, 512)]", more=STRESS.replace("return", "1 / 0; return")
    )
    outcome = (await bench.check("return x.clamp_min(0)", reference)).outcome
    assert outcome.verdict is Verdict.REFERENCE_ERROR
    assert "calling get_stress_inputs: ZeroDivisionError" in outcome.message


async def test_the_overflow_that_a_naive_softmax_has_under_stress_is_found(bench: Any) -> None:
    """C20: right on the law of get_inputs, where zeros pass as well, and wrong where it matters."""
    reference = task("return torch.softmax(x, -1)", "[torch.rand(2, 100_000)]", more=STRESS)
    naive = "e = x.exp(); return e / e.sum(-1, keepdim=True)"
    outcome, _ = await judged(bench, naive, reference)
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome
    safe = "e = (x - x.amax(-1, keepdim=True)).exp(); return e / e.sum(-1, keepdim=True)"
    outcome, _ = await judged(bench, safe, reference)
    assert outcome.verdict is Verdict.PASSED, outcome


MATMUL = task(
    "return x @ self.weight",
    "[torch.randn(32, 512)]",
    construct="self.weight = torch.nn.Parameter(torch.randn(512, 256))",
)
ROUNDED = "return (x.bfloat16().float()) @ self.weight"


async def test_lowered_precision_is_flagged_and_not_refused(bench: Any) -> None:
    lowered = twin(MATMUL).replace(
        "return x @ self.weight", "return x.half().float() @ self.weight.half().float()"
    )
    outcome, lint = await judged(bench, lowered, MATMUL, atol=0.5)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.oracle == "fp64"
    evidence = flag(outcome, "precision_lowered")
    assert evidence is not None
    assert "oracle: fp64" in evidence


@pytest.mark.parametrize(
    "body",
    [
        "return torch.stack([part_x @ part_w for part_x, part_w in zip(x.split(8, 1), self.weight.split(8, 0))]).sum(0)",
        "return (self.weight.t().flip(1) @ x.t().flip(0)).t()",
        "return (x.double() @ self.weight.double()).float()",
        "h, l = x.bfloat16().float(), x - x.bfloat16().float(); return h @ self.weight + l @ self.weight",
    ],
)
async def test_another_order_of_summation_is_not(bench: Any, body: str) -> None:
    outcome, _ = await judged(bench, twin(MATMUL).replace("return x @ self.weight", body), MATMUL, atol=0.5)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.flags == []


async def test_a_reference_that_has_no_double_precision_is_measured_by_its_conditioning(bench: Any) -> None:
    reference = task("return (x.float() if x.dtype is torch.float32 else 1 / 0) @ self.weight", "[torch.randn(32, 512)]",
                     construct="self.weight = torch.nn.Parameter(torch.randn(512, 256))")  # fmt: skip
    outcome, lint = await judged(bench, twin(MATMUL), reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.oracle == "fp32"
    assert lint.own_rms_err is not None
    assert 1e-9 < lint.own_rms_err < 1e-5
    assert outcome.correctness is not None
    assert outcome.correctness.oracle == "fp32"
    assert outcome.flags == []


@pytest.mark.parametrize(
    ("change", "oracle"),
    [
        ("return x.float() * 2", "fp32"),
        ("y = x * 2; return y if x.dtype is torch.float32 else y + 1", "fp32"),
        ("return x * 2", "fp64"),
        ("return x * torch.full((1,), 2.0)", "fp64"),
    ],
)
async def test_a_run_in_double_precision_counts_only_if_it_is_one_and_agrees(
    bench: Any, change: str, oracle: str
) -> None:
    reference = task(change, "[torch.randn(32, 512)]")
    outcome, lint = await judged(bench, "return x * 2", reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.oracle == oracle


async def test_probes_leave_no_trace_in_the_model(bench: Any) -> None:
    reference = task(
        "self.calls += 1; assert self.calls <= 3 and self.weight.dtype is torch.float32 or x.dtype is torch.float64 "
        "or self.calls == 5 and False or self.calls <= 4; return x * self.weight",
        "[torch.randn(32, 512)]",
        construct="self.calls = 0; self.weight = torch.nn.Parameter(torch.ones(512))",
    )
    # Two sets and one repetition are three calls; each probe is the fourth of a copy that is thrown away.
    outcome, lint = await judged(bench, "return x * 1", reference, sets=2)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.oracle == "fp64"
    assert any(answer.answer == "bf16_operands" for answer in lint.answers)


async def test_a_reference_is_linted_once(bench: Any) -> None:
    """The second check does not notice that its own inputs would have been found weak."""
    known = secrets.token_hex(32)
    options = Options(timed_calls=0, correctness_sets=2)
    first = (await bench.check(twin(SOFTMAX), SOFTMAX, options=options, reference_hash=known)).outcome
    again = (
        await bench.check("return torch.zeros_like(x)", SOFTMAX, options=options, reference_hash=known)
    ).outcome
    assert again.verdict is Verdict.WRONG_RESULT
    assert again.lint == first.lint
    looser = Options(timed_calls=0, correctness_sets=2, tolerance="keck")
    other = (await bench.check(twin(SOFTMAX), SOFTMAX, options=looser, reference_hash=known)).outcome
    assert other.lint != first.lint


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
async def test_narrow_outputs_are_linted_as_well(bench: Any, dtype: str) -> None:
    reference = task("return torch.softmax(x, -1)", f"[torch.rand(4, 50_000, dtype=torch.{dtype})]")
    honest = f"e = (x.float() - x.float().amax(-1, keepdim=True)).exp(); return (e / e.sum(-1, keepdim=True)).to(torch.{dtype})"
    outcome, lint = await judged(bench, honest, reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.flags == []
    assert lint.comparison == "scaled"
    outcome, _ = await judged(bench, "return torch.zeros_like(x)", reference)
    assert outcome.verdict is Verdict.WRONG_RESULT


async def test_a_task_of_one_set_is_linted_without_another_sets_answer(bench: Any) -> None:
    outcome, lint = await judged(bench, twin(LOSS), LOSS, sets=1, tolerance="keck")
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.sets == 1
    assert lint.weak
    assert "another_set" not in {answer.answer for answer in lint.answers}
    assert lint.comparison == "tolerance"


async def test_a_sum_by_atomics_is_honest_on_a_task_compared_by_scale(bench: Any) -> None:
    """The order of partial sums differs from call to call, as with atomics."""
    body = """
        parts = (x * x).view(1000, 1000).sum(1)
        total = torch.zeros(())
        for index in torch.randperm(1000).tolist():
            total = total + parts[index]
        return total / 1_000_000
    """
    outcome, lint = await judged(bench, body, LOSS, tolerance="keck", sets=5)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.comparison == "scaled"
    assert outcome.flags == []


async def test_a_dead_operation_may_be_left_out(bench: Any) -> None:
    """K01: what is cancelled later need not be computed."""
    reference = task("y = x + self.bias; return y - self.bias", "[torch.randn(64, 512)]",
                     construct="self.bias = torch.nn.Parameter(torch.randn(512))")  # fmt: skip
    outcome, lint = await judged(bench, "return x * 1", reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.weak  # the input itself is the answer
    assert "input 0" in (flag(outcome, "weak_task") or "")


async def test_outputs_that_change_from_set_to_set_are_compared_and_not_linted(bench: Any) -> None:
    reference = task(
        "return [x] * (1 + int(x[0, 0] > 0)) + [x.int() if x[0, 1] > 0 else x]",
        "[torch.randn(4, 4)]",
    )
    outcome, lint = await judged(bench, twin(reference), reference, sets=12)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.sets == 0
    assert lint.answers == []


async def test_stress_outputs_of_another_dtype_are_the_tasks_fault(bench: Any) -> None:
    more = STRESS.replace("torch.randn(32, 512) * 100", "torch.randint(-9, 9, (32, 512))")
    reference = task("return torch.relu(x)", "[torch.rand(64, 512)]", more=more)
    outcome = (await bench.check("return x.clamp_min(0)", reference)).outcome
    assert outcome.verdict is Verdict.REFERENCE_ERROR
    assert "get_stress_inputs" in outcome.message


async def test_inputs_that_never_change_leave_the_spread_within(bench: Any) -> None:
    """Without randomness another set's answer is the answer, and zeros for small outputs are not."""
    reference = task("return torch.softmax(x, -1)", "[torch.arange(100_000.0).view(2, -1) / 100_000]")
    outcome, lint = await judged(bench, twin(reference), reference)
    assert outcome.verdict is Verdict.PASSED, outcome
    assert lint.weak
    assert lint.comparison == "scaled"
    weak = {answer.answer for answer in lint.answers if answer.passes and answer.passes_scaled}
    assert weak == {"another_set"}
    outcome, _ = await judged(bench, "return torch.zeros_like(x)", reference)
    assert outcome.verdict is Verdict.WRONG_RESULT
