"""A check through a system that runs already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from keck.cli._here import Judge
from keck.cli._stages import Stages
from keck.client import CheckArguments, Client
from keck.errors import Unavailable
from keck.messages import CheckProgress, EvalDone
from keck.settings import Settings
from keck.targets import targets_of

__all__ = ["judge_there"]


@asynccontextmanager
async def judge_there(where: str, *, settings: Settings) -> AsyncIterator[Judge]:
    """What judges through the gateway or bus at `where`."""
    async with Client(where, settings=settings) as client:

        async def judge(sources: tuple[str, str], given: CheckArguments, stages: Stages) -> EvalDone:
            async with aclosing(client.follow(*sources, **given)) as events:
                async for event in events:
                    if isinstance(event, EvalDone):
                        return event
                    stages.show(event)
                    await _warn_if_unserved(client, event, stages)
            raise Unavailable(f"{where} ended the check's events without a verdict")

        yield judge


async def _warn_if_unserved(client: Client, event: CheckProgress, stages: Stages) -> None:
    if event.stage != "compiled" or not event.target:
        return
    executors = await client.executors()
    served = any(event.target in targets_of(worker.target, worker.facts.get("gpu")) for worker in executors)
    if not served:
        stages.note(f"no live executor serves {event.target}: the build waits for one until the deadline")
