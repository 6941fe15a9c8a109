"""From a model's answers to scores: checks, retries, and one client for a whole process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from keck.adapters.preparation import check_or_score
from keck.adapters.score import Score, not_judged, scored
from keck.adapters.settings import AdapterSettings
from keck.adapters.task import Task, task_of
from keck.batches import Check
from keck.client import Client
from keck.errors import BadRequest, DeadlineExceeded, KeckError, NotJudged, QueueFull
from keck.sync_client import SyncClient
from keck.verdict import Verdict

__all__ = ["Scorer", "reward_or_raise", "scorer_for"]


class Scorer:
    """Scores answers from any thread and any event loop, all of them over one connection a process."""

    def __init__(self, settings: AdapterSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._client: SyncClient | None = None
        self._pid = 0

    async def score(self, answer: str, task: object) -> Score:
        """The score of one answer; a sample that could not be judged is a score that is masked.

        Raises:
            BadRequest: the task can never be judged against as it stands, or a setting is wrong.
        """
        return await asyncio.wrap_future(self._begin(answer, task_of(task)))

    async def score_all(self, answers: Sequence[str], tasks: Sequence[object]) -> list[Score]:
        """Scores in the order of the answers."""
        return await asyncio.gather(*map(asyncio.wrap_future, self._begin_all(answers, tasks)))

    def score_now(self, answer: str, task: object) -> Score:
        """The same as :meth:`score` for code that is not async."""
        return self._begin(answer, task_of(task)).result()

    def score_all_now(self, answers: Sequence[str], tasks: Sequence[object]) -> list[Score]:
        """The same as :meth:`score_all` for code that is not async."""
        return [future.result() for future in self._begin_all(answers, tasks)]

    def close(self) -> None:
        """Let go of the connection; the next call makes another. A process that ends needs no call of it."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _begin_all(self, answers: Sequence[str], tasks: Sequence[object]) -> list[Future[Score]]:
        if len(answers) != len(tasks):
            raise BadRequest(f"{len(answers)} answers and {len(tasks)} tasks")
        # All tasks are read before the first check is sent: a bad one must not leave the others half begun.
        read = [task_of(task) for task in tasks]
        return [self._begin(answer, task) for answer, task in zip(answers, read, strict=True)]

    def _begin(self, answer: str, task: Task) -> Future[Score]:
        found = check_or_score(answer, task, self.settings)
        if isinstance(found, Score):
            return _settled(found)
        try:
            client = self._connected()
        except KeckError as error:
            return _settled(_unanswered(error))
        return client.run(lambda inner: self._judge(inner, found))

    async def _judge(self, client: Client, check: Check) -> Score:
        """The check's score; an infrastructure's failure is tried again as a fresh check."""
        judge = self.settings.judge
        for attempt in range(judge.retries + 1):
            try:
                event = await client.check_patiently(check, patience_s=judge.patience_s)
            except BadRequest:
                raise  # the task or a setting: whoever wrote it has to hear of it
            except KeckError as error:
                return _unanswered(error)
            if event.verdict is not Verdict.INFRA_ERROR or attempt == judge.retries:
                break
        return scored(event, self.settings.rewards)

    def _connected(self) -> SyncClient:
        with self._lock:
            # A process that was forked has neither the thread nor the loop of its parent's client.
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = SyncClient(self.settings.judge.url or None), os.getpid()
            return self._client


_SCORERS: dict[tuple[tuple[str, str], ...], Scorer] = {}
_SCORERS_LOCK: Final = threading.Lock()


def scorer_for(given: Mapping[str, Any]) -> Scorer:
    """The process's scorer with these settings; made when first asked for.

    Raises:
        BadRequest: a name is no setting, or a value cannot be one.
    """
    key = tuple(sorted((name, repr(value)) for name, value in given.items()))
    with _SCORERS_LOCK:
        if key not in _SCORERS:
            _SCORERS[key] = Scorer(AdapterSettings.of(given))
        return _SCORERS[key]


def reward_or_raise(score: Score, neutral: float | None) -> float:
    """For trainers without a mask: the reward, or the neutral value that the user asked for.

    Raises:
        NotJudged: there is neither; a number in its place would be learnt from.
    """
    if score.reward is not None:
        return score.reward
    if neutral is not None:
        return neutral
    raise NotJudged(
        f"no verdict on a sample ({score.facts['verdict']} {score.facts['failure_kind']}): {score.facts['feedback']}"
    )


def _unanswered(error: KeckError) -> Score:
    match error:
        case DeadlineExceeded():
            return not_judged("deadline_exceeded", failure_kind="", reason=str(error))
        case QueueFull():
            return not_judged("infra_error", failure_kind="queue_full", reason=str(error))
        case _:
            return not_judged("infra_error", failure_kind="unavailable", reason=str(error))


def _settled(score: Score) -> Future[Score]:
    future: Future[Score] = Future()
    future.set_result(score)
    return future
