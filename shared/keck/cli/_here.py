"""Checks through a private system that lives as long as they do."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from keck import subjects
from keck.bus import Bus
from keck.cli._stages import Stages
from keck.client import CheckArguments, Client
from keck.embedded import Embedded, devices_here
from keck.errors import Unavailable
from keck.messages import CheckProgress, CompileDone, Durations, EvalDone, Options, decode, verdict_of
from keck.settings import Settings
from keck.verdict import Verdict

__all__ = ["Judge", "judge_here"]

_BUILD_LOOKS = 50
_BUILD_LOOK_EVERY_S = 0.1
_GRACE_S = 3.0


Judge = Callable[[tuple[str, str], CheckArguments, Stages], Awaitable[EvalDone]]
"""Has a candidate and a reference judged; may be called several times, also at once."""


@asynccontextmanager
async def judge_here(options: Options, stages: Stages, *, settings: Settings) -> AsyncIterator[Judge]:
    """Start a system, judge, stop the system.

    A candidate whose target has no executor here is built all the same; then the verdict says so.

    Args:
        options: of the checks to come: which executors are started depends on them.
        stages: where to say what is done.
        settings: of this process.
    """
    devices = _devices_for(options)
    stages.note(f"starting a private system ({', '.join(devices) or 'no executor'})")
    with tempfile.TemporaryDirectory(prefix="keck-", ignore_cleanup_errors=True) as directory:
        system = Embedded(
            directory=Path(directory),
            devices=devices,
            # Caches outlive the check; the streams do not.
            settings_env={"KECK_STATE_DIR": str(settings.state_dir.expanduser())},
            report=stages.note,
        )
        await system.start()
        try:
            stages.note("ready")
            async with Client(system.nats_url, settings=system.client_settings(settings)) as client:
                yield partial(_follow, client, system)
        finally:
            await system.stop(grace_s=_GRACE_S)


async def _follow(
    client: Client, system: Embedded, sources: tuple[str, str], given: CheckArguments, stages: Stages
) -> EvalDone:
    async with aclosing(client.follow(*sources, **given)) as events:
        async for event in events:
            if isinstance(event, EvalDone):
                return event
            stages.show(event)
            if event.stage == "compiled" and event.target and not system.fleet.has_target(event.target):
                build = await _stored_build(system.bus, event, lane=given.get("lane", "interactive"))
                return _unserved(build)
    raise Unavailable("the events of the check ended without a verdict")


def _devices_for(options: Options) -> list[str]:
    """The executors one check needs: one GPU, or the CPU, or none where it asks for a GPU in vain."""
    here = devices_here()
    match options.device:
        case "cpu":
            return ["cpu"]
        case "cuda":
            return here[:1] if here != ["cpu"] else []
        case _:
            return here[:1]


async def _stored_build(bus: Bus, event: CheckProgress, *, lane: str) -> CompileDone:
    """The build itself, which shows that it was made: progress is said around the time it is stored."""
    subject = subjects.compile_done(event.target, lane, event.run, event.check_id)
    for _ in range(_BUILD_LOOKS):
        stored = await bus.last_by_subject(subjects.BUILDS, subject)
        if stored is not None:
            return decode(stored[1], CompileDone)
        await asyncio.sleep(_BUILD_LOOK_EVERY_S)
    raise Unavailable(f"no build of {event.check_id} was stored")


def _unserved(build: CompileDone) -> EvalDone:
    """The verdict on a build that nobody here can run. It is this command's own and is never published."""
    count = len(build.extensions)
    what = f"{count} extension{'s' if count > 1 else ''} " if count else ""
    arch = build.build.arch or build.target
    verdict = verdict_of(
        build,
        Verdict.INFRA_ERROR,
        stage="compile",
        failure_kind="no_executor",
        message=f"{what}built for {arch} in {build.compile_s:.1f} s; no CUDA executor here",
        attempts=build.attempts,
        durations_s=Durations(compile=build.compile_s, total=max(0.0, time.time() - build.submitted_at)),
    )
    return msgspec.structs.replace(verdict, compiled=True)
