"""From a build on the bus to a verdict on the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, Literal, NamedTuple

from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.containment import verdict_facts
from keck.endings import lost
from keck.errors import ArtifactCorrupt, ArtifactMissing, Retry
from keck.kinds import kind_named
from keck.kinds.lint import LINT
from keck.logs import logger
from keck.messages import CompileDone, EvalDone, Isolation, Source, progress_of
from keck.verdict import Verdict
from keck_executor.gpu_processes import GpuProcesses
from keck_executor.judge.job import Job, Phase
from keck_executor.rebuilding import BuildLost, Rebuilding
from keck_executor.report import report
from keck_executor.residue import CLEARED
from keck_executor.runner_pool import PooledRunner
from keck_executor.station import Station
from keck_sandbox import Exit, kill_strays

__all__ = ["Handler"]

_EXIT_S = 5.0
_SIDES: Final[tuple[Literal["candidate", "reference"], ...]] = ("candidate", "reference")


async def _to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """A step that must not stop in the middle; who is cancelled meanwhile ends after it."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


class _Doubt(NamedTuple):
    """Why a verdict is not taken from one pair of runners alone."""

    reason: Literal["time", "killed"]
    evidence: str


def _doubt(suspicion: str, done: EvalDone, exit_: Exit | None) -> _Doubt | None:
    """Faster than the device can be; or killed, as by the machine for want of memory, and not by a limit of ours."""
    if suspicion:
        return _Doubt("time", suspicion)
    killed = exit_ is not None and exit_.signal_name == "SIGKILL" and not exit_.over_memory
    if killed and done.verdict in (Verdict.CRASHED, Verdict.REFERENCE_ERROR):
        return _Doubt("killed", done.message)
    return None


class Handler:
    """Judges one check at a time on one device."""

    def __init__(self, bus: Bus, station: Station, *, worker: str, isolation: Isolation) -> None:
        self._bus = bus
        self._station = station
        self._worker = worker
        self._isolation = isolation
        self._artifacts = Artifacts(bus)
        self._rebuilding = Rebuilding(bus)
        self._serial = 0
        uuid = station.judge.facts.get("gpu_uuid")
        self._gpu = GpuProcesses(str(uuid)) if uuid else None

    async def handle(self, event: CompileDone, attempt: int) -> None:
        """Judge a build and publish its verdict; returns once that is stored."""
        try:
            doubt = await self._attempted(event, attempt, None)
            if doubt is not None:
                # Seen once it may be an accident of ours, seen by other runners it is not.
                logger().warning("judged_again", reason=doubt.reason, evidence=doubt.evidence)
                await self._attempted(event, attempt, doubt)
        except BuildLost as error:
            await self._rebuilding.send_back(event, error)

    async def _attempted(self, event: CompileDone, attempt: int, doubted: _Doubt | None) -> _Doubt | None:
        """Judge once, with fresh runners, and publish; or return why it should be done again."""
        runners: list[PooledRunner] = []
        try:
            await _to_its_end(self._take(runners))
            done, doubt = await self._judged(event, attempt, doubted, *runners)
            if doubt is not None and doubted is None:
                return doubt
            await self._bus.publish_terminal(done)
            return None
        finally:
            await self._clean_up(runners)

    async def _take(self, runners: list[PooledRunner]) -> None:
        """One for each side, added as they come, so that none is forgotten."""
        for side in _SIDES:
            runners.append(await self._station.pool.take(side))
        if self._station.placement.kind == "cuda":
            await self._station.pool.refill()

    async def give_up(self, event: CompileDone, reason: str, failure_kind: str, attempts: int) -> None:
        """The verdict on a check that no attempt could finish: ours, not the candidate's."""
        await self._bus.publish_terminal(lost(event, reason, failure_kind=failure_kind, attempts=attempts))

    async def _judged(
        self,
        event: CompileDone,
        attempt: int,
        doubted: _Doubt | None,
        candidate: PooledRunner,
        reference: PooledRunner,
    ) -> tuple[EvalDone, _Doubt | None]:
        """The verdict, and why it may not be right, if anything says so."""
        started = time.time()
        job = await self._prepare(event, candidate, reference)

        async def on_phase(phase: Phase) -> None:
            await self._progress(event, phase)

        outcome = await self._station.judge.judge(job, (candidate.sock, reference.sock), on_phase)
        if outcome.verdict is None:
            raise Retry(outcome.message, failure_kind="judge_failed")
        gone = candidate if outcome.ended == "candidate" else reference if outcome.ended else None
        exit_ = await gone.process.wait(_EXIT_S) if gone is not None else None
        done = report(
            event,
            outcome,
            suspected=doubted.evidence if doubted is not None and doubted.reason == "time" else "",
            exit_=exit_,
            output=(gone or candidate).process.output(),
            facts={**self._station.facts, **verdict_facts(self._isolation)},
            attempt=attempt,
            started=started,
        )
        return done, _doubt(outcome.suspicion, done, exit_)

    async def _prepare(self, event: CompileDone, candidate: PooledRunner, reference: PooledRunner) -> Job:
        """Put sources and artifacts where the runners find them."""
        kind = kind_named(event.kind)
        sources, extensions = {}, []
        try:
            for side, runner, source in (
                ("candidate", candidate, event.candidate),
                ("reference", reference, event.reference),
            ):
                sources[side] = runner.directory / f"{side}.py"
                await asyncio.to_thread(sources[side].write_text, await self._text(source), encoding="utf-8")
            for number, extension in enumerate(event.extensions):
                path = candidate.directory / f"extension{number}" / f"{extension.name}.so"
                path.parent.mkdir()
                await self._artifacts.fetch(extension.artifact, path)
                extensions.append((extension.call, extension.name, str(path)))
        except (ArtifactMissing, ArtifactCorrupt) as error:
            raise BuildLost(str(error)) from error
        self._serial += 1
        exec_timeout_s = min(
            self._station.settings.exec_timeout_s,
            event.options.exec_timeout_s or self._station.settings.exec_timeout_s,
        )
        return Job(
            serial=self._serial,
            options=event.options,
            candidate_classes=kind.candidate_classes,
            reference_names=kind.reference_names,
            candidate_path=str(sources["candidate"]),
            reference_path=str(sources["reference"]),
            extensions=extensions,
            candidate_pid=candidate.process.leader,
            reference_pid=reference.process.leader,
            exec_timeout_s=exec_timeout_s,
            reference_timeout_s=max(60.0, self._station.settings.exec_timeout_s),
            reading=event.reading,
            scrub=self._station.memory_left != CLEARED,
            lint=kind is LINT,
            reference_hash=event.reference.sha256,
        )

    async def _text(self, source: Source) -> str:
        if source.text is not None:
            return source.text
        return (await self._artifacts.get(source.sha256)).decode()

    async def _progress(self, event: CompileDone, phase: Phase) -> None:
        if phase.stage in ("load", "correctness", "timing"):
            await self._bus.publish_progress(
                progress_of(event, phase.stage, phase.message, worker=self._worker, target=event.target)
            )

    async def _clean_up(self, runners: list[PooledRunner]) -> None:
        """End everything of this check before the next begins."""
        await asyncio.gather(*(runner.end(self._station.quarantine) for runner in runners))
        judge = self._station.judge.pid
        known = self._station.pool.pids | ({judge} if judge is not None else set())
        strays = await kill_strays(known)
        if strays:
            logger().warning("strays_killed", count=strays)
        if self._gpu is not None and judge is not None:
            ghosts = await asyncio.to_thread(self._gpu.ghosts, judge)
            if ghosts:
                self._station.quarantine.until(
                    self._gpu.gone(judge),
                    reason=f"the GPU is still held by {len(ghosts)} processes that are gone",
                )
        await self._station.pool.refill()
