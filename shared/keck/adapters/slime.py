"""slime: ``--custom-rm-path keck.adapters.slime.custom_rm``, or without code ``--rm-type remote_rm --rm-url …``.

The label is the reference's source (:func:`keck.adapters.task_of`). Settings are a mapping ``keck`` of slime's own arguments
(``--custom-config-path`` reads one from YAML); without it Keck's environment variables hold.

With ``--reward-key score`` the reward is a dict with ``score`` and the keys of `keck.adapters.score.KEYS`; without a key a number.

Where a sample could not be judged: ``remove_sample`` is set, which takes it out of the loss. slime still counts its reward
when it centres those of a group, so it gets the mean of the others of its group that were judged, where the whole group
is scored at once (``--group-rm``), and `neutral` (0.0) where it is not or none of them was.

``POST /trainers/slime`` on the gateway answers slime's ``remote_rm``: ``--rm-url http://host:8000/trainers/slime?device=cuda``
with any settings in the query. What could not be judged is a 503 there, which slime tries again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keck.adapters.score import Score, Value
from keck.adapters.scorer import scorer_for

__all__ = ["custom_rm"]

Reward = float | dict[str, Value]


async def custom_rm(args: Any, sample: Any, **_: Any) -> Any:
    """The reward of a sample, or those of a list of samples."""
    scorer = scorer_for(dict(getattr(args, "keck", None) or {}))
    samples = list(sample) if isinstance(sample, Sequence) else [sample]
    scores = await scorer.score_all([one.response for one in samples], [one.label for one in samples])
    neutral = scorer.settings.judge.neutral or 0.0
    rewards = [
        score.reward_or(_mean_of_group(one, samples, scores, neutral))
        for one, score in zip(samples, scores, strict=True)
    ]
    for one, score in zip(samples, scores, strict=True):
        if score.is_masked:
            one.remove_sample = True
    keyed = bool(getattr(args, "reward_key", None))
    answers = [_reward(value, score, keyed=keyed) for value, score in zip(rewards, scores, strict=True)]
    return answers if isinstance(sample, Sequence) else answers[0]


def _mean_of_group(sample: Any, samples: Sequence[Any], scores: Sequence[Score], neutral: float) -> float:
    rewards = [
        score.reward
        for other, score in zip(samples, scores, strict=True)
        if score.reward is not None and other.group_index == sample.group_index
    ]
    return sum(rewards) / len(rewards) if rewards else neutral


def _reward(value: float, score: Score, *, keyed: bool) -> Reward:
    return {"score": value, **score.facts} if keyed else value
