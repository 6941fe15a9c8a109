"""verifiers itself calls the adapter: rubrics before 0.2, tasks since."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from keck.adapters import verifiers as keck_vf
from keck.adapters.score import KEYS
from keck.played import PlayedSystem

vf_package = pytest.importorskip("verifiers", reason="`make test-trainers` installs verifiers")
HAS_RUBRICS = hasattr(vf_package, "Rubric")
legacy = pytest.mark.skipif(not HAS_RUBRICS, reason="this verifiers has no Rubric: 0.1 had")
since_v1 = pytest.mark.skipif(HAS_RUBRICS, reason="this verifiers has no tasks: 0.2 has")

REFERENCE = "class Model: ...\n"


def answer(outcome: str) -> str:
    return f"```python\n# verdict: {outcome}\nclass ModelNew: ...\n```\n"


def a_task(url: str) -> Any:
    vf = importlib.import_module("verifiers.v1")

    class KernelData(vf.TaskData):
        reference: str

    class KernelTask(vf.Task[KernelData]):
        @vf.reward(weight=2.0)
        async def kernel(self, trace: Any) -> float:
            return await keck_vf.score_trace(trace, self.data.reference, url=url, retries=0)

    return KernelTask(KernelData(idx=0, prompt="write a kernel", reference=REFERENCE))


def a_trace(text: str) -> Any:
    """A trace whose agent's reply this is, as far as scoring looks at it."""
    trace = importlib.import_module("verifiers.v1.trace")
    return trace.Trace.model_construct(rewards={}, metrics={}, root_reply=text)


@since_v1
async def test_v1_records_reward_and_metrics(played: PlayedSystem) -> None:
    task = a_task(played.http_url)
    trace = a_trace(answer("passed"))
    await task.score(trace)
    assert trace.reward == pytest.approx(2 * 1.36)
    assert trace.metrics["keck_speedup_lower"] == pytest.approx(1.06)
    assert {f"keck_{key}" for key in KEYS} >= set(trace.metrics)


@since_v1
async def test_v1_gets_its_own_error_for_what_could_not_be_judged(played: PlayedSystem) -> None:
    errors = importlib.import_module("verifiers.v1.errors")
    trace = a_trace(answer("infra_error"))
    with pytest.raises(errors.SandboxError, match="infra_error"):
        await a_task(played.http_url).score(trace)
    assert trace.rewards == {"kernel": None}  # unscored, and not 0


def _state(outcome: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "write a kernel"}],
        "completion": [{"role": "assistant", "content": answer(outcome)}],
        "answer": REFERENCE,
        "info": {},
        "trajectory": [],
        "error": None,
    }


@legacy
@pytest.mark.parametrize("grouped", [False, True])
async def test_a_rubric_scores_and_marks_what_could_not_be_judged(
    played: PlayedSystem, grouped: bool
) -> None:
    import verifiers as vf

    rubric = vf.Rubric(funcs=[keck_vf.reward_function(url=played.http_url, retries=0)])
    states = [_state(outcome) for outcome in ("passed", "crashed", "infra_error")]
    if grouped:
        await rubric.score_group(states)
    else:
        for state in states:
            await rubric.score_rollout(state)
    assert [state["reward"] for state in states] == pytest.approx([1.36, 0.0, 0.0])
    assert [state["keck"]["verdict"] for state in states] == ["passed", "crashed", "infra_error"]
    assert [state["error"] for state in states[:2]] == [None, None]
    assert isinstance(states[2]["error"], vf.InfraError)
