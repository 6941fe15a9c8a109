"""TRL itself calls the adapter: a trainer on a model of two layers, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest

from keck.adapters import trl as keck_trl
from keck.played import PlayedSystem

trl = pytest.importorskip("trl", reason="`make test-trainers` installs trl")

REFERENCE = "class Model: ...\n"


def answer(outcome: str) -> str:
    return f"```python\n# verdict: {outcome}\nclass ModelNew: ...\n```\n"


@pytest.fixture
def make_trainer(tiny_grpo: dict[str, Any]) -> Any:
    """A GRPO trainer with this reward function, and nothing that comes from a hub."""

    def make(reward_func: Any) -> Any:
        return trl.GRPOTrainer(
            model=tiny_grpo["model"],
            reward_funcs=reward_func,
            args=trl.GRPOConfig(**tiny_grpo["arguments"]),
            train_dataset=tiny_grpo["dataset"],
            processing_class=tiny_grpo["tokenizer"],
        )

    return make


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make_reward", [keck_trl.reward, keck_trl.reward_sync], ids=["async", "sync"])
def test_a_sample_that_could_not_be_judged_is_not_a_number_to_trl(
    played: PlayedSystem, make_trainer: Any, make_reward: Any
) -> None:
    trainer = make_trainer(make_reward(url=played.http_url, retries=0))
    outcomes = ["passed", "crashed", "infra_error", "hack_detected"]
    inputs = [{"prompt": "write a kernel", "reference": REFERENCE}] * 4
    rewards = trainer._calculate_rewards(
        inputs, ["write a kernel"] * 4, [answer(outcome) for outcome in outcomes], [[3]] * 4
    )
    assert rewards[:, 0].tolist() == pytest.approx([1.36, 0.0, float("nan"), -1.0], nan_ok=True)


@pytest.mark.timeout(300)
def test_a_step_of_training_runs_through_the_adapter(played: PlayedSystem, make_trainer: Any) -> None:
    trainer = make_trainer(keck_trl.reward(url=played.http_url, format_error=-0.25))
    trainer.train()
    logged = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert logged == [pytest.approx(-0.25)]  # a model of seven words writes no code
