"""verl: custom reward functions for its reward loops and for the managers ``batch``, ``remote`` and ``prime``.

In the configuration (before 2026 without the leading ``reward.``)::

    reward.custom_reward_function.path=pkg://keck.adapters.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.device=cuda

=====================  ==================================================================
manager                ``name``
=====================  ==================================================================
naive, dapo            ``compute_score``: one call for each sample, all of them at once
batch                  ``compute_score_batch``
remote, prime          ``compute_score_sync``: these take no coroutine
=====================  ==================================================================

``reward_kwargs`` are settings (:class:`keck.adapters.AdapterSettings`). The ground truth is the reference's source
(:func:`keck.adapters.task_of`). The answer is a dict with ``score`` and the keys of `keck.adapters.score.KEYS`.

Where a sample could not be judged: verl has no mask in its reward path, so the call raises ``keck.NotJudged`` after its
retries, which stops the step. With the setting ``neutral`` it scores that instead, with ``mask_sample`` 1; call
:func:`mask_out` on the batch before advantages are used. The manager ``rate_limited`` turns exceptions into 0.0 and other keys:
set ``neutral`` there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from keck.adapters.score import Score, Value
from keck.adapters.scorer import Scorer, reward_or_raise, scorer_for

__all__ = ["compute_score", "compute_score_batch", "compute_score_sync", "mask_out"]

_VERLS_OWN: Final = frozenset({"reward_router_address", "reward_model_tokenizer"})
"""Passed to whatever reward function there is where a reward model runs."""


async def compute_score(
    data_source: str, solution_str: str, ground_truth: object, extra_info: object = None, **settings: Any
) -> dict[str, Value]:
    """Score one sample."""
    scorer = _scorer(settings)
    return _answer(scorer, await scorer.score(solution_str, ground_truth))


def compute_score_sync(
    data_source: str, solution_str: str, ground_truth: object, extra_info: object = None, **settings: Any
) -> dict[str, Value]:
    """Score one sample, for managers that call from threads or processes."""
    scorer = _scorer(settings)
    return _answer(scorer, scorer.score_now(solution_str, ground_truth))


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[object],
    extra_infos: Sequence[object] | None = None,
    **settings: Any,
) -> list[dict[str, Value]]:
    """Score a batch, all of it at once, in order."""
    scorer = _scorer(settings)
    return [
        _answer(scorer, score) for score in scorer.score_all_now(list(solution_strs), list(ground_truths))
    ]


def mask_out(batch: Any) -> int:
    """Take the samples that could not be judged out of the loss; returns how many they were.

    Args:
        batch: a ``DataProto`` with ``response_mask``, and ``mask_sample`` among its extra reward information.
    """
    masked = [bool(value) for value in batch.non_tensor_batch["mask_sample"]]
    for row, is_masked in enumerate(masked):
        if is_masked:
            batch.batch["response_mask"][row] = 0
    return sum(masked)


def _scorer(settings: Mapping[str, Any]) -> Scorer:
    return scorer_for({name: value for name, value in settings.items() if name not in _VERLS_OWN})


def _answer(scorer: Scorer, score: Score) -> dict[str, Value]:
    return {"score": reward_or_raise(score, scorer.settings.judge.neutral), **score.facts}
