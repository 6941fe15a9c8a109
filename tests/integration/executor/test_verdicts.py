"""Small pairs through a real judge and real runners: what each candidate's doing comes to."""

from __future__ import annotations

import re
from typing import Any

import pytest

from keck.messages import Options
from keck.verdict import Verdict

from .sources import twin

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


REFERENCE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1

def get_inputs():
    return [torch.rand(16, 8)]

def get_init_inputs():
    return []
"""


def reference_of(forward: str, inputs: str, *, init: str = "[]", construct: str = "") -> str:
    return f"""
import random, torch

class Model(torch.nn.Module):
    def __init__(self, *arguments, **named):
        super().__init__()
        {construct or "pass"}
    def forward(self, {forward}

def get_inputs():
    return {inputs}

def get_init_inputs():
    return {init}
"""


async def test_a_right_answer_passes_and_is_timed(bench: Any) -> None:
    outcome = (await bench.check("return 1 + 2 * x", options=Options(timed_calls=10))).outcome
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.correct is True
    assert outcome.stage == "done"
    assert outcome.timing is not None
    assert outcome.timing.candidate_ms.n == 10
    assert outcome.correctness is not None
    # Five of correctness, ten that are timed, and one to three that are not, at whose end the process was killed.
    assert 15 < outcome.correctness.calls_checked <= 18
    single, batches = outcome.seeds.split(",")[:5], outcome.seeds.split(",")[5:]
    assert all(re.fullmatch(r"[0-9a-f]{16}", seed) for seed in single)
    assert all(re.fullmatch(r"[0-9a-f]{16}x[0-9]+", seed) for seed in batches)
    assert sum(int(seed.partition("x")[2]) for seed in batches) >= 11


async def test_no_content_comes_twice_while_a_clock_runs(bench: Any) -> None:
    remembers = """
    seen = globals().setdefault("SEEN", {})
    key = hash(x.numpy().tobytes())
    if key in seen: print("again", flush=True)
    return seen.setdefault(key, x * 2 + 1)
    """
    judged = await bench.check(remembers, options=Options(timed_calls=20))
    assert judged.outcome.verdict is Verdict.PASSED, judged.outcome
    assert judged.outcome.timing.candidate_ms.n == 20
    assert "again" not in judged.output


@pytest.mark.parametrize(("options", "lives"), [({}, False), ({"profile": True}, True)])
async def test_the_candidate_is_ended_at_the_end_of_its_last_call(
    bench: Any, options: dict[str, Any], lives: bool
) -> None:
    judged = await bench.check("return x * 2 + 1", options=Options(timed_calls=5, **options))
    assert judged.outcome.verdict is Verdict.PASSED, judged.outcome
    assert judged.lives is lives


@pytest.mark.parametrize(
    ("candidate", "verdict", "told"),
    [
        ("return x * 2", Verdict.WRONG_RESULT, "128 of 128 values are wrong"),
        ("y = x * 2 + 1; y[-1, -1] += 1; return y", Verdict.WRONG_RESULT, "1 of 128 values"),
        ("return x * float('nan')", Verdict.WRONG_RESULT, "128 of 128 values are wrong"),
        ("return (x * 2 + 1).t()", Verdict.SHAPE_MISMATCH, "[8, 16]"),
        ("return (x * 2 + 1)[:1]", Verdict.SHAPE_MISMATCH, "[1, 8]"),
        ("return x.repeat(999, 999)", Verdict.SHAPE_MISMATCH, "[15984, 7992]"),
        ("return (x * 2 + 1).double()", Verdict.DTYPE_MISMATCH, "float64"),
        ("return [x * 2 + 1]", Verdict.SHAPE_MISMATCH, "a sequence of 1"),
        ("return None", Verdict.SHAPE_MISMATCH, "None"),
        ("return (x * 2 + 1).to_sparse()", Verdict.FORMAT_ERROR, "sparse"),
        ("return (x * 2 + 1).reshape((16, 8) + (1,) * 7)", Verdict.FORMAT_ERROR, "8 dimensions"),
        ("return (x * 2 + 1).to(torch.float8_e8m0fnu)", Verdict.FORMAT_ERROR, "float8_e8m0fnu"),
        ("return '\\ud800'", Verdict.FORMAT_ERROR, "Unicode"),
        ("return object()", Verdict.FORMAT_ERROR, "object"),
        ("raise ValueError('the reason')", Verdict.RUNTIME_ERROR, "ValueError: the reason"),
        ("sys.exit(0)", Verdict.RUNTIME_ERROR, "SystemExit"),
        ("raise MemoryError", Verdict.OUT_OF_MEMORY, "MemoryError"),
        ("os._exit(0)", Verdict.CRASHED, "ended"),
        ("os.abort()", Verdict.CRASHED, "ended"),
        ("x.add_(1); return (x - 1) * 2 + 1", Verdict.WRONG_RESULT, "changed its input 0 in place"),
        ("import does_not_exist", Verdict.RUNTIME_ERROR, "No module named"),
        ("class ModelNew: pass\nimport does_not_exist", Verdict.LOAD_ERROR, "No module named"),
        ("# class ModelNew is missing", Verdict.LOAD_ERROR, "`ModelNew`"),
        ("class ModelNew(", Verdict.LOAD_ERROR, "SyntaxError"),
        ("class ModelNew:\n    def __init__(self): 1 / 0", Verdict.LOAD_ERROR, "ZeroDivisionError"),
    ],
)
async def test_a_failing_candidate_gets_its_verdict(
    bench: Any, candidate: str, verdict: Verdict, told: str
) -> None:
    outcome = (await bench.check(candidate)).outcome
    assert outcome.verdict is verdict, outcome
    assert told in outcome.message
    assert outcome.correct is not True


async def test_an_endless_loop_ends_with_the_candidates_seconds(bench: Any) -> None:
    outcome = (await bench.check("while True: pass", exec_timeout_s=1.0)).outcome
    assert outcome.verdict is Verdict.EXEC_TIMEOUT
    assert outcome.message == "the candidate used up its 1 s (EXEC_TIMEOUT)"
    assert outcome.held_s < 10


async def test_an_endless_reference_is_the_tasks_fault(bench: Any) -> None:
    endless = reference_of("x):\n        while True: pass", "[torch.rand(2)]")
    outcome = (await bench.check("return x", endless, reference_timeout_s=1.0)).outcome
    assert outcome.verdict is Verdict.REFERENCE_ERROR


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (REFERENCE.replace("return x * 2 + 1", "raise ValueError('mine')"), "ValueError: mine"),
        (REFERENCE.replace("return x * 2 + 1", "return x * torch.rand(1)"), "another answer"),
        (REFERENCE.replace("return x * 2 + 1", "return 3"), "cannot be judged"),
        (REFERENCE.replace("return x * 2 + 1", "import os; os._exit(1)"), "ended"),
        (
            "calls = [0]\n"
            + REFERENCE.replace("return x * 2 + 1", "calls[0] += 1; return (x,) if calls[0] < 3 else (x, x)"),
            "another answer",
        ),
        (REFERENCE.replace("def get_init_inputs", "def other"), "`get_init_inputs`"),
        (REFERENCE.replace("[torch.rand(16, 8)]", "1 / 0"), "ZeroDivisionError"),
        (REFERENCE.replace("[torch.rand(16, 8)]", "[torch.zeros(1).expand(10**15)]"), "inputs take"),
        (REFERENCE.replace("[torch.rand(16, 8)]", "[object()]"), "type object"),
    ],
)
async def test_a_failing_reference_is_the_tasks_fault(bench: Any, reference: str, told: str) -> None:
    outcome = (await bench.check("return x * 2 + 1", reference)).outcome
    assert outcome.verdict is Verdict.REFERENCE_ERROR, outcome
    assert told in outcome.message


LINEAR = reference_of(
    "x):\n        return self.linear(x)",
    "[torch.rand(4, 8)]",
    init="[8]",
    construct="self.linear = torch.nn.Linear(arguments[0], 3)",
)


@pytest.mark.parametrize(
    ("candidate", "reference", "weights"),
    [
        (
            twin(LINEAR).replace("torch.nn.Linear(", "torch.rand(9) is None or torch.nn.Linear("),
            LINEAR,
            "copied",
        ),
        (
            twin(LINEAR).replace("self.linear", "self.other"),
            LINEAR,
            "seeded",
        ),
        ("return 1 + x * 2", REFERENCE, "none"),
    ],
)
async def test_weights_are_copied_where_they_match(
    bench: Any, candidate: str, reference: str, weights: str
) -> None:
    outcome = (await bench.check(candidate, reference)).outcome
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.correctness is not None
    assert outcome.correctness.weights == weights


async def test_a_model_of_more_parameters_than_a_reply_has_records_is_copied(bench: Any) -> None:
    many = reference_of(
        "x):\n        return sum(p for p in self.all) + x",
        "[torch.rand(3)]",
        construct="self.all = torch.nn.ParameterList(torch.rand(3) for _ in range(700))",
    )
    outcome = (await bench.check(twin(many), many)).outcome
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.correctness is not None
    assert outcome.correctness.weights == "copied"


FORMS = {
    "nested": reference_of("x, y):\n        return {'b': (x + y['k'][0],), 'a': [x, x > 1]}",
                           "[torch.rand(3), {'k': [torch.rand(3)]}]"),
    "integers": reference_of("x):\n        return x.argsort(), x.sum(0)", "[torch.randint(0, 99, (7, 5))]"),
    "booleans": reference_of("x):\n        return x > 0.5", "[torch.rand(50)]"),
    "empty": reference_of("x):\n        return x[:0], x", "[torch.rand(4, 4)]"),
    "empty inputs": reference_of("x):\n        return x.sum()", "[torch.rand(0, 4)]"),
    "scalars": reference_of("x, n, f, b, s, none):\n        assert s == 'sum' and none is None and b is True\n"
                            "        return (x * n + f).sum()", "[torch.rand(4), 3, 0.5, True, 'sum', None]"),
    "no tensors in": reference_of("n):\n        return torch.arange(n)", "[5]"),
    "keywords": reference_of("x, *, scale):\n        return x * scale", "{'x': torch.rand(4), 'scale': 2.0}"),
    "a bare tensor": reference_of("x):\n        return -x", "torch.rand(4)"),
    "random shapes": reference_of("x):\n        return x + 1", "[torch.rand(random.randint(1, 50), 3)]"),
    "large": reference_of("x):\n        return x.expand(6 << 20) + 1", "[torch.rand(1)]"),
    "growing": reference_of("x):\n        return x.repeat(1 << 20)", "[torch.rand(random.randint(2, 9))]"),
    "large inputs": reference_of("x):\n        return x.sum(0)", "[torch.rand(6 << 10, 1 << 10)]"),
    "expanded": reference_of("x):\n        return x.sum().expand(600), x * 2", "[torch.rand(600)]"),
    "gaps": reference_of("x):\n        return x[:, ::2], x.t()", "[torch.rand(8, 8).t()]"),
    "overlapping": reference_of("x):\n        return x + 1",
                                "[torch.rand(16).as_strided((4, 4), (5, 0)), ][:1]"),
    "double and half": reference_of("x):\n        return x.double(), x.half(), x.bfloat16()", "[torch.rand(9)]"),
    "complex": reference_of("x):\n        return torch.fft.fft(x)", "[torch.rand(16)]"),
    "non-finite": reference_of("x):\n        return x / 0, x * float('nan')", "[torch.rand(4) - 0.5]"),
    "mutating": reference_of("x):\n        return x.add_(1)", "[torch.rand(4)]"),
    "unsigned": reference_of("x):\n        return x.to(torch.uint32)", "[torch.randint(0, 9, (4,))]"),
    "the input itself": reference_of("x):\n        return x, x", "[torch.rand(4)]"),
    "a static buffer": reference_of("x):\n        return self.out.copy_(x)", "[torch.rand(4)]",
                                    construct="self.out = torch.empty(4)"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_inputs_and_outputs_can_be_judged(bench: Any, form: str) -> None:
    options = Options(timed_calls=3, correctness_sets=3)
    outcome = (await bench.check(twin(FORMS[form]), FORMS[form], options=options)).outcome
    assert outcome.verdict is Verdict.PASSED, outcome


@pytest.mark.parametrize(
    "form", ["nested", "integers", "booleans", "large", "growing", "expanded", "scalars"]
)
async def test_a_wrong_element_is_seen_in_every_form(bench: Any, form: str) -> None:
    wrong = twin(FORMS[form]) + (
        "\nright = ModelNew.forward\n"
        "def spoil(value):\n"
        "    if isinstance(value, dict): return {k: spoil(v) for k, v in value.items()}\n"
        "    if isinstance(value, (list, tuple)): return [*value[:-1], spoil(value[-1])]\n"
        "    value = value.clone(); flat = value.view(-1)\n"
        "    flat[-1] = ~flat[-1] if value.dtype is torch.bool else flat[-1] + 1\n"
        "    return value\n"
        "ModelNew.forward = lambda self, *a, **k: spoil(right(self, *a, **k))\n"
    )
    outcome = (await bench.check(wrong, FORMS[form])).outcome
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome


async def test_profile_tables_of_both_sides_come_along(bench: Any) -> None:
    options = Options(timed_calls=0, correctness_sets=1, profile=True)
    outcome = (await bench.check("return torch.add(x * 2, 1)", options=options)).outcome
    assert outcome.verdict is Verdict.PASSED, outcome
    assert outcome.profile is not None
    assert all(
        re.search(r"aten::(mul|add)", table) for table in (outcome.profile.torch, outcome.profile.cuda)
    )


async def test_what_a_candidate_prints_is_kept(bench: Any) -> None:
    judged = await bench.check("print('hello from forward', flush=True); return x * 2 + 1")
    assert "hello from forward" in judged.output
