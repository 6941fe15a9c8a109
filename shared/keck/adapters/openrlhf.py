"""OpenRLHF: a reward function, or without code a URL.

``--remote_rm_url file.py`` (``--reward.remote_url`` since 0.11) with a file of two lines::

    from keck.adapters.openrlhf import reward_function
    reward_func = reward_function(device="cuda")

The label is the reference's source (:func:`keck.adapters.task_of`). A query is prompt and answer in one text, so the prompt
is looked for and what follows it is the answer; a query that does not hold its prompt raises ``BadRequest``: in it, code
of the prompt could be taken for the model's.

Where a sample could not be judged: OpenRLHF has no mask, so the call raises ``keck.NotJudged`` after its retries. With the
setting ``neutral`` that is the reward, and ``extra_logs`` says ``mask_sample`` 1.

``POST /trainers/openrlhf`` on the gateway answers OpenRLHF's HTTP form: ``http://host:8000/trainers/openrlhf?device=cuda``
with any settings in the query. What could not be judged is a 503 there, which OpenRLHF tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keck.adapters.score import Score
from keck.adapters.scorer import reward_or_raise, scorer_for
from keck.errors import BadRequest

__all__ = ["answer_in", "reward_function", "rewards_of"]


def reward_function(**settings: Any) -> Callable[..., dict[str, Any]]:
    """OpenRLHF's ``reward_func`` with these settings (:class:`keck.adapters.AdapterSettings`, flat)."""
    scorer = scorer_for(settings)

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[object], **_: Any
    ) -> dict[str, Any]:
        answers = [answer_in(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
        found = rewards_of(scorer.score_all_now(answers, labels), neutral=scorer.settings.judge.neutral)
        return _as_tensors(found)

    return reward_func


def answer_in(query: str, prompt: str) -> str:
    """What follows the prompt in a query.

    Raises:
        BadRequest: the query does not hold the prompt.
    """
    _, found, answer = query.partition(prompt)
    if not found:
        raise BadRequest(
            "a query does not hold its prompt as it is (does the tokenizer change it?), so its answer cannot be told apart"
        )
    return answer


def rewards_of(scores: Sequence[Score], *, neutral: float | None) -> dict[str, Any]:
    """OpenRLHF's three fields, as plain lists; of the facts those that are numbers, which is all it logs.

    Raises:
        NotJudged: a sample could not be judged, and there is no neutral value.
    """
    rewards = [reward_or_raise(score, neutral) for score in scores]
    numbers = (
        [name for name, value in scores[0].facts.items() if not isinstance(value, str)] if scores else []
    )
    logs = {name: [float(score.facts[name]) for score in scores] for name in numbers}
    return {"rewards": rewards, "scores": rewards, "extra_logs": logs}


def _as_tensors(found: Mapping[str, Any]) -> dict[str, Any]:
    # Where this runs torch is the trainer's own; without the adapter's being called nothing of it is loaded.
    import torch  # noqa: PLC0415

    logs = {name: torch.tensor(values) for name, values in found["extra_logs"].items()}
    return {
        "rewards": torch.tensor(found["rewards"]),
        "scores": torch.tensor(found["scores"]),
        "extra_logs": logs,
    }
