"""TRL: reward functions for ``GRPOTrainer`` and its kin.

::

    from keck.adapters import trl
    trainer = GRPOTrainer(reward_funcs=trl.reward(device="cuda"), ...)

The data set has a column ``reference`` with the reference's source (or another, named by ``column``). Completions may be
text or conversations, of which the last message counts.

Where a sample could not be judged its reward is ``None``: TRL leaves it out. Beside rewards TRL logs the verdict
of each completion and what part passed, where its version lets reward functions log.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from keck.adapters.score import Score
from keck.adapters.scorer import scorer_for
from keck.errors import BadRequest

__all__ = ["reward", "reward_sync"]

Rewards = list[float | None]


def reward(*, column: str = "reference", **settings: Any) -> Callable[..., Coroutine[Any, Any, Rewards]]:
    """An async reward function, which TRL runs beside others.

    Args:
        column: of the data set, with the references.
        settings: of :class:`keck.adapters.AdapterSettings`, flat.
    """
    scorer = scorer_for(settings)

    async def keck_reward(*, completions: Sequence[object], **columns: Any) -> Rewards:
        answers = [_text_of(completion) for completion in completions]
        return _rewards(await scorer.score_all(answers, _tasks(columns, column)), columns)

    return keck_reward


def reward_sync(*, column: str = "reference", **settings: Any) -> Callable[..., Rewards]:
    """A reward function for versions of TRL that take no async ones; see :func:`reward`."""
    scorer = scorer_for(settings)

    def keck_reward(*, completions: Sequence[object], **columns: Any) -> Rewards:
        answers = [_text_of(completion) for completion in completions]
        return _rewards(scorer.score_all_now(answers, _tasks(columns, column)), columns)

    return keck_reward


def _tasks(columns: Mapping[str, Any], column: str) -> list[object]:
    if column not in columns:
        raise BadRequest(f"the data set has no column {column!r}; it has {', '.join(sorted(columns))}")
    return list(columns[column])


def _rewards(scores: list[Score], columns: Mapping[str, Any]) -> Rewards:
    if log_extra := columns.get("log_extra"):
        log_extra("keck_verdict", [str(score.facts["verdict"]) for score in scores])
    if log_metric := columns.get("log_metric"):
        judged = [score for score in scores if not score.is_masked]
        log_metric("keck/masked", (len(scores) - len(judged)) / len(scores))
        if judged:
            log_metric(
                "keck/passed", sum(score.facts["verdict"] == "passed" for score in judged) / len(judged)
            )
    return [score.reward for score in scores]


def _text_of(completion: object) -> str:
    """A completion's text; of a conversation, the last message's."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], Mapping):
        return _content(completion[-1].get("content"))
    raise BadRequest(f"a completion is text or a list of messages, not a {type(completion).__name__}")


def _content(content: object) -> str:
    """A message's text, which may come in parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""
