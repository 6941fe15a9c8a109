"""Keck in trainers: one module for each, over the same scorer, rewards and rule of extraction.

What every adapter does: find the candidate in the model's answer (:mod:`keck.adapters.extraction`), have it checked, again
where Keck failed, and turn the verdict into a reward (:mod:`keck.adapters.rewards`). What differs is how a sample that
could not be judged is left out; each module says how its trainer does it.
"""

from __future__ import annotations

from keck.adapters.extraction import Extracted, candidate_in
from keck.adapters.rewards import RewardPolicy
from keck.adapters.score import Score
from keck.adapters.scorer import Scorer, scorer_for
from keck.adapters.settings import AdapterSettings, JudgeSettings
from keck.adapters.task import Task, task_of

__all__ = [
    "AdapterSettings",
    "Extracted",
    "JudgeSettings",
    "RewardPolicy",
    "Score",
    "Scorer",
    "Task",
    "candidate_in",
    "scorer_for",
    "task_of",
]
