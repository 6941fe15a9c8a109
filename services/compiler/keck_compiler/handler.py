"""One request on the bus: ``check.requested`` in, ``compile.done`` out, or the verdict where it ends here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from keck import subjects
from keck._version import __version__
from keck.artifacts import Artifacts
from keck.bus import Bus
from keck.containment import verdict_facts
from keck.hashing import sha256_hex
from keck.logs import logger
from keck.messages import (
    INLINE_SOURCE_BYTES,
    CheckRequested,
    CompileDone,
    Durations,
    Hashes,
    Isolation,
    Source,
    progress_of,
    verdict_of,
)
from keck.subjects import CheckKey
from keck.verdict import Verdict
from keck_compiler.compilation import Compilation, Ready
from keck_compiler.failure import Failure

__all__ = ["Handler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """Handles deliveries; when it returns, what follows is stored and the request may be acknowledged."""

    bus: Bus
    artifacts: Artifacts
    compilation: Compilation
    worker: str
    isolation: Isolation

    async def handle(self, request: CheckRequested, attempt: int) -> None:
        """Handle one delivery of a request."""
        started = time.time()

        async def report(stage: Literal["format", "compile"], message: str) -> None:
            await self._progress(request, stage, message)

        result = await self.compilation.compile(request, report)
        if isinstance(result, Failure):
            await self._publish_verdict(request, result, started, attempt)
        else:
            await self._publish_build(request, result, started, attempt)

    async def give_up(self, request: CheckRequested, reason: str, failure_kind: str, attempts: int) -> None:
        """Publish the infrastructure verdict of a request that no compiler could handle."""
        failure = Failure(
            verdict=Verdict.INFRA_ERROR,
            stage="compile",
            message=f"infrastructure: {reason}",
            failure_kind=failure_kind,
        )
        await self._publish_verdict(request, failure, time.time(), attempts)

    async def _publish_verdict(
        self, request: CheckRequested, failure: Failure, started: float, attempt: int
    ) -> None:
        now = time.time()
        verdict = verdict_of(
            request,
            failure.verdict,
            stage=failure.stage,
            message=failure.message,
            failure_kind=failure.failure_kind,
            log=failure.log,
            build=failure.build,
            attempts=attempt,
            durations_s=Durations(
                queued=max(0.0, started - request.submitted_at),
                compile=now - started,
                total=max(0.0, now - request.submitted_at),
            ),
            hashes=Hashes(
                candidate=sha256_hex(request.candidate), reference=sha256_hex(request.reference), artifact=""
            ),
            environment={
                **self.compilation.builder.toolchain.versions,
                "judge": __version__,
                **verdict_facts(self.isolation),
            },
        )
        stored = await self.bus.publish_terminal(verdict)
        logger().info("check_ended", verdict=str(failure.verdict), stored=stored, compile_s=now - started)

    async def _publish_build(
        self, request: CheckRequested, ready: Ready, started: float, attempt: int
    ) -> None:
        now = time.time()
        event = CompileDone(
            check_id=request.check_id,
            run=request.run,
            generation=request.generation,
            lane=request.lane,
            kind=request.kind,
            target=ready.target.name,
            candidate=await self._source(request.candidate),
            reference=await self._source(request.reference),
            options=request.options,
            deadline=request.deadline,
            submitted_at=request.submitted_at,
            compiled_at=now,
            compile_s=now - started,
            attempts=attempt,
            extensions=ready.extensions,
            build=ready.build,
            reading=ready.reading,
            rebuilds=request.rebuilds,
        )
        await self.bus.publish(
            subjects.compile_done(ready.target.name, request.lane, request.run, request.check_id),
            event,
            msg_id=subjects.build_id(CheckKey.of(request), rebuilds=request.rebuilds),
        )
        await self._progress(request, "compiled", _summary(ready), target=ready.target.name)
        logger().info(
            "check_compiled", target=ready.target.name, cache=ready.build.cache, compile_s=now - started
        )

    async def _source(self, text: str) -> Source:
        data = text.encode()
        if len(data) <= INLINE_SOURCE_BYTES:
            return Source(sha256=sha256_hex(data), size=len(data), text=text)
        return Source(sha256=await self.artifacts.put(data), size=len(data))

    async def _progress(
        self,
        request: CheckRequested,
        stage: Literal["format", "compile", "compiled"],
        message: str,
        *,
        target: str = "",
    ) -> None:
        await self.bus.publish_progress(
            progress_of(request, stage, message, worker=self.worker, target=target)
        )


def _summary(ready: Ready) -> str:
    count = len(ready.extensions)
    if not count:
        return f"nothing to build; waiting for an executor of {ready.target.name}"
    how = "found in the cache" if ready.build.cache == "hit" else f"built in {ready.build.wall_s:.1f} s"
    return f"{count} extension{'s'[: count > 1]} {how}; waiting for an executor of {ready.target.name}"
