"""TRL itself calls the adapter: a trainer on a model of two layers, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keck.adapters import trl as keck_trl
from keck.played import PlayedSystem

transformers = pytest.importorskip("transformers", reason="`make test-trainers` installs transformers")
trl = pytest.importorskip("trl", reason="`make test-trainers` installs trl")
datasets = pytest.importorskip("datasets", reason="`make test-trainers` installs datasets")
tokenizers = pytest.importorskip("tokenizers", reason="`make test-trainers` installs tokenizers")
torch = pytest.importorskip("torch")

REFERENCE = "class Model: ...\n"
WORDS = ["<pad>", "<eos>", "<unk>", "write", "a", "kernel", "now"]


def answer(outcome: str) -> str:
    return f"```python\n# verdict: {outcome}\nclass ModelNew: ...\n```\n"


@pytest.fixture
def make_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GRPO trainer with these reward functions, and nothing that comes from a hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def make(*reward_funcs: Any) -> Any:
        vocabulary = {word: number for number, word in enumerate(WORDS)}
        words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words,
            pad_token="<pad>",
            eos_token="<eos>",
            unk_token="<unk>",
            padding_side="left",
        )
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, eos_token_id=1, bos_token_id=1,
            )
        )  # fmt: skip
        arguments = trl.GRPOConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=4, max_completion_length=4,
            max_steps=1, use_cpu=True, bf16=False, report_to=[], logging_steps=1, save_strategy="no",
        )  # fmt: skip
        data = datasets.Dataset.from_dict({"prompt": ["write a kernel"] * 4, "reference": [REFERENCE] * 4})
        return trl.GRPOTrainer(
            model=model,
            reward_funcs=list(reward_funcs),
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
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
