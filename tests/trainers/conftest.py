"""A model of two layers and seven words, for trainers that want one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_WORDS = ["<pad>", "<eos>", "<unk>", "write", "a", "kernel", "now"]


@pytest.fixture
def tiny_grpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Model, tokenizer, data set and arguments of one step of TRL's GRPO on the CPU; nothing of it from a hub."""
    reason = "`make test-trainers` installs it"
    pytest.importorskip("trl", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    datasets = pytest.importorskip("datasets", reason=reason)
    tokenizers = pytest.importorskip("tokenizers", reason=reason)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vocabulary = {word: number for number, word in enumerate(_WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    configuration = transformers.LlamaConfig(
        vocab_size=len(_WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    arguments = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1,
        "max_completion_length": 4, "use_cpu": True, "bf16": False, "report_to": [], "logging_steps": 1,
        "save_strategy": "no",
    }  # fmt: skip
    rows = {"prompt": ["write a kernel"] * 4, "reference": ["class Model: ...\n"] * 4}
    return {
        "model": transformers.LlamaForCausalLM(configuration),
        "tokenizer": tokenizer,
        "dataset": datasets.Dataset.from_dict(rows),
        "arguments": arguments,
    }
