"""verl itself loads and calls the adapter: its reward loop per sample, its batch manager, its remote workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from keck import NotJudged
from keck.adapters.score import KEYS
from keck.adapters.verl import mask_out
from keck.played import PlayedSystem

pytest.importorskip("verl", reason="`make test-trainers` installs verl")
numpy = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
omegaconf = pytest.importorskip("omegaconf")

from verl import DataProto
from verl.trainer.ppo.reward import get_custom_reward_fn

REFERENCE = "class Model: ...\n"
OUTCOMES = ["passed", "crashed", "hack_detected", "passed"]


def answer(outcome: str) -> str:
    return f"```python\n# verdict: {outcome}\nclass ModelNew: ...\n```\n"


class Tokenizer:
    """Bytes are tokens."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return bytes(ids.tolist()).decode()


def config(name: str, **settings: Any) -> Any:
    function = {"path": "pkg://keck.adapters.verl", "name": name, "reward_kwargs": settings}
    return omegaconf.OmegaConf.create({"reward": {"custom_reward_function": function, "num_workers": 2}})


def rollouts(outcomes: list[str]) -> Any:
    texts = [answer(outcome).encode() for outcome in outcomes]
    width = max(map(len, texts))
    responses = torch.zeros(len(texts), width, dtype=torch.long)
    attention = torch.zeros(len(texts), width + 1, dtype=torch.long)
    attention[:, 0] = 1
    for row, text in enumerate(texts):
        responses[row, : len(text)] = torch.tensor(list(text))
        attention[row, 1 : len(text) + 1] = 1
    prompts = torch.zeros(len(texts), 1, dtype=torch.long)
    columns = {
        "data_source": ["kernels"] * len(texts),
        "reward_model": [{"ground_truth": REFERENCE}] * len(texts),
        "extra_info": [{} for _ in texts],
    }
    return DataProto.from_dict(
        tensors={"prompts": prompts, "responses": responses, "attention_mask": attention},
        non_tensors={name: numpy.array(values, dtype=object) for name, values in columns.items()},
    )


async def test_the_reward_loop_scores_each_sample(played: PlayedSystem) -> None:
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    settings = config("compute_score", url=played.http_url, retries=0, wrong=-0.5, neutral=0.0)
    manager = NaiveRewardManager(settings, Tokenizer(), get_custom_reward_fn(settings))
    assert manager.is_async_reward_score
    outcomes = [*OUTCOMES, "infra_error"]
    batch = rollouts(outcomes)
    found = await asyncio.gather(*(manager.run_single(batch[row : row + 1]) for row in range(len(outcomes))))
    assert [one["reward_score"] for one in found] == pytest.approx([1.36, -0.5, -1.0, 1.36, 0.0])
    assert {tuple(one["reward_extra_info"]) for one in found} == {("score", *KEYS)}
    # As the agent loop stacks it, and then the hook for what could not be judged.
    for name in KEYS:
        batch.non_tensor_batch[name] = numpy.array([one["reward_extra_info"][name] for one in found])
    batch.batch["response_mask"] = batch.batch["attention_mask"][:, 1:].clone()
    assert mask_out(batch) == 1
    assert batch.batch["response_mask"].sum(dim=1).bool().tolist() == [True, True, True, True, False]


async def test_without_a_neutral_value_the_step_fails(played: PlayedSystem) -> None:
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    settings = config("compute_score", url=played.http_url, retries=0)
    manager = NaiveRewardManager(settings, Tokenizer(), get_custom_reward_fn(settings))
    with pytest.raises(NotJudged):
        await manager.run_single(rollouts(["infra_error"]))


def test_the_batch_manager_scores_all_at_once(played: PlayedSystem) -> None:
    from verl.workers.reward_manager.batch import BatchRewardManager

    settings = config("compute_score_batch", url=played.http_url, retries=0)
    manager = BatchRewardManager(Tokenizer(), num_examine=0, compute_score=get_custom_reward_fn(settings))
    found = manager(rollouts(OUTCOMES), return_dict=True)
    assert found["reward_tensor"].sum(dim=1).tolist() == pytest.approx([1.36, 0.0, -1.0, 1.36])
    assert found["reward_extra_info"]["verdict"] == OUTCOMES


@pytest.fixture
def ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.timeout(300)
async def test_the_remote_manager_scores_in_processes_of_its_own(played: PlayedSystem, ray: None) -> None:
    from verl.experimental.reward_loop.reward_manager.remote import RemoteRewardManager

    settings = config("compute_score_sync", url=played.http_url, retries=0)
    manager = RemoteRewardManager(settings, Tokenizer(), get_custom_reward_fn(settings))
    batch = rollouts(OUTCOMES)
    found = await asyncio.gather(*(manager.run_single(batch[row : row + 1]) for row in range(len(OUTCOMES))))
    assert [one["reward_score"] for one in found] == pytest.approx([1.36, 0.0, -1.0, 1.36])
