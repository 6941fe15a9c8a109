"""Outputs that are not memory of their own: expanded, overlapping, with gaps, views of inputs, weights or each other.

They are copied element by element before they are compared, so that only their values count.
"""

from __future__ import annotations

from typing import Any

import pytest

from keck.messages import Options
from keck.verdict import Verdict

from .sources import task

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


def reference(forward: str, *, construct: str = "pass") -> str:
    return task(forward, "[torch.randn(16, 8)]", construct=construct)


ROWS = reference("return x.mean(0, keepdim=True).repeat(16, 1)")
OVERLAPPING = reference("return torch.stack([x[0, i : i + 4] for i in range(5)])")
COLUMNS = reference("return x[:, ::2].contiguous()")
TWICE = reference("return x * 2")
PAIR = reference("return x + 1, x + 1")
WEIGHT = reference("return self.w + 0 * x", construct="self.w = torch.nn.Parameter(torch.randn(16, 8))")
SAME = reference("return x.clone()")


@pytest.mark.parametrize(
    ("task", "body"),
    [
        (ROWS, "return x.mean(0, keepdim=True).expand(16, 8)"),
        (OVERLAPPING, "return x[0].as_strided((5, 4), (1, 1))"),
        (COLUMNS, "return x[:, ::2]"),
        (TWICE, "return (x.t().contiguous() * 2).t()"),
        (TWICE, "return torch.stack([x * 2, x], -1)[..., 0]"),
        (PAIR, "y = x + 1; return y, y"),
        (PAIR, "y = torch.stack([x + 1] * 2); return y[0], y[1]"),
        (WEIGHT, "return self.w.detach()"),
        (SAME, "return x"),
        (SAME, "return x.view(8, 16).view(16, 8)"),
    ],
)
@pytest.mark.parametrize("timed_calls", [0, 4])
async def test_right_values_pass_whatever_memory_they_lie_in(
    bench: Any, task: str, body: str, timed_calls: int
) -> None:
    head = task.split("def forward", maxsplit=1)[0].replace("class Model(", "class ModelNew(")
    candidate = f"{head}def forward(self, x):\n        {body}\n"
    options = Options(timed_calls=timed_calls, correctness_sets=2)
    outcome = (await bench.check(candidate, task, options=options)).outcome
    assert outcome.verdict is Verdict.PASSED, outcome


@pytest.mark.parametrize(
    ("task", "body", "told"),
    [
        # A row for all rows, an element for all elements: the form is right, and nothing else.
        (TWICE, "return (x[:1] * 2).expand(16, 8)", "of 128 values are wrong"),
        (TWICE, "return (x * 2).as_strided((16, 8), (0, 0))", "of 128 values are wrong"),
        (TWICE, "return (x * 2).as_strided((16, 8), (4, 1))", "of 128 values are wrong"),
        # The input's own memory, as it is and changed in place.
        (TWICE, "return x", "of 128 values are wrong"),
        (TWICE, "return x.mul_(2)", "changed its input 0 in place"),
        (TWICE, "y = x * 2; x.copy_(y); return y", "changed its input 0 in place"),
        # One result in two places, of which one is spoilt by the other.
        (PAIR, "y = x + 1; z = y.view(8, 16).view(16, 8); z[0, 0] += 1; return y, z", "are wrong"),
        # What lies outside the input: the inputs' arena is larger than one set.
        (TWICE, "return x.as_strided((16, 8), (8, 1), 128)", "are wrong"),
    ],
)
async def test_a_form_without_the_values_fools_nobody(bench: Any, task: str, body: str, told: str) -> None:
    outcome = (await bench.check(body, task)).outcome
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome
    assert told in outcome.message


async def test_an_answer_kept_in_the_inputs_memory_is_not_there_at_the_next_call(bench: Any) -> None:
    """Whoever keeps a view of an earlier call's input finds other values in it."""
    keeps = """
import torch
class ModelNew(torch.nn.Module):
    kept = None
    def forward(self, x):
        self.kept = x if self.kept is None else self.kept
        return self.kept * 2
"""
    outcome = (await bench.check(keeps, TWICE, options=Options(timed_calls=0, correctness_sets=16))).outcome
    assert outcome.verdict is Verdict.WRONG_RESULT, outcome
