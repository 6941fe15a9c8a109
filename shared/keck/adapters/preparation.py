"""What an answer comes to before Keck is asked: a check, or already a score."""

from __future__ import annotations

from keck.adapters.extraction import candidate_in
from keck.adapters.score import Score, format_error
from keck.adapters.settings import AdapterSettings
from keck.adapters.task import Task
from keck.batches import Check
from keck.kinds import kind_named
from keck.messages import MAX_SOURCE_BYTES

__all__ = ["check_or_score"]


def check_or_score(answer: str, task: Task, settings: AdapterSettings) -> Check | Score:
    """The check to be made of a model's answer; its score, if there is no candidate in it.

    Raises:
        BadRequest: the task's kind or options are none.
    """
    judge = settings.judge
    kind = kind_named(task.kind or judge.kind)
    source, problem = candidate_in(answer, judge.extract, classes=kind.candidate_classes)
    if problem := problem or _unsendable(source):
        return format_error(problem, settings.rewards)
    return Check(
        candidate=source,
        reference=task.reference,
        run=judge.run,
        kind=kind.name,
        options=task.options_over(settings.options),
        deadline_s=judge.deadline_s,
    )


def _unsendable(candidate: str) -> str:
    """Why this is no candidate whoever would judge it: a model must not get its samples masked by writing such text."""
    try:
        size = len(candidate.encode())
    except UnicodeEncodeError:
        return "the candidate is not valid Unicode text: it holds a lone surrogate"
    return (
        f"the candidate has {size} bytes; at most {MAX_SOURCE_BYTES} are taken"
        if size > MAX_SOURCE_BYTES
        else ""
    )
