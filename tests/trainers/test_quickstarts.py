"""Every snippet of docs/trainers.md, run as it stands; those of a package that is not there are skipped."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keck.played import PlayedSystem

PAGE = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
REFERENCE = "class Model: ...\n"
ANSWER = "```python\n# verdict: passed\nclass ModelNew: ...\n```\n"


@pytest.fixture(autouse=True)
def _keck(played: PlayedSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KECK_URL", played.http_url)
    monkeypatch.setattr("keck.adapters.scorer._SCORERS", {})


async def run_snippet(title: str, **names: Any) -> dict[str, Any]:
    """The names that a section's snippet leaves behind."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    snippet = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    assert len(snippet.splitlines()) <= 20
    code = compile(snippet, f"docs/trainers.md: {title}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if result is not None:
        await result
    return names


async def test_verl(capsys: pytest.CaptureFixture[str]) -> None:
    left = await run_snippet("verl", answer=ANSWER, reference=REFERENCE)
    assert left["result"]["score"] == pytest.approx(1.36)
    assert "passed" in capsys.readouterr().out


async def test_slime() -> None:
    sample = SimpleNamespace(response=ANSWER, label=REFERENCE, group_index=0)
    left = await run_snippet("slime", args=SimpleNamespace(reward_key=None), sample=sample)
    assert left["reward"] == pytest.approx(1.36)


async def test_openrlhf() -> None:
    pytest.importorskip("torch")
    left = await run_snippet("OpenRLHF")
    assert left["reward_func"]([f"prompt{ANSWER}"], ["prompt"], [REFERENCE])[
        "rewards"
    ].item() == pytest.approx(1.36)


async def test_nemo_gym() -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": ANSWER}]}
    body = {"response": {"output": [message]}, "verifier_metadata": {"reference": REFERENCE}}
    left = await run_snippet("NeMo Gym", body=body)
    assert (left["answer"]["reward"], left["answer"]["mask_sample"]) == (pytest.approx(1.36), False)


async def test_verifiers() -> None:
    pytest.importorskip("verifiers.v1.trace", reason="`make test-trainers` installs verifiers")
    from verifiers.v1.trace import Trace

    left = await run_snippet("verifiers", __name__="quickstart")
    trace = Trace.model_construct(rewards={}, metrics={}, root_reply=ANSWER)
    await left["KernelTask"](left["KernelData"](prompt="write", reference=REFERENCE)).score(trace)
    assert trace.reward == pytest.approx(1.36)


@pytest.mark.timeout(300)
async def test_trl(tiny_grpo: dict[str, Any]) -> None:
    left = await run_snippet("TRL", **tiny_grpo)
    logged = [entry["reward"] for entry in left["trainer"].state.log_history if "reward" in entry]
    assert logged == [0.0]  # a model of seven words writes no code
