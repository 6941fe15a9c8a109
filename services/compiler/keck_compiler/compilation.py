"""From a request to something that can run, or to the reason why there is nothing: no message is sent here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from keck.errors import BadRequest
from keck.kinds import Kind, kind_named
from keck.messages import BuildRecord, CheckRequested, Extension, Heartbeat, Reading
from keck.settings import Settings
from keck.verdict import Verdict
from keck_cell import ExtensionCall
from keck_compiler.build_cache import BuildCache
from keck_compiler.builder import Builder, build_key
from keck_compiler.built import BuildTimeout, Built
from keck_compiler.failure import Failure, format_failure
from keck_compiler.flags import refused_flag
from keck_compiler.outcome import Outcome
from keck_compiler.reading.reader import Reader
from keck_compiler.reading.request import read_findings, read_form
from keck_compiler.recorder import Recorder
from keck_compiler.scan import Site
from keck_compiler.target import Target, choose_arch, choose_target

__all__ = ["Compilation", "Ready", "Report"]

Report = Callable[[Literal["format", "compile"], str], Awaitable[None]]
"""Tells the world where the work is: stage and one line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A candidate that can run."""

    target: Target
    extensions: list[Extension]
    build: BuildRecord
    reading: Reading


@dataclass(frozen=True, slots=True)
class _Done:
    call: ExtensionCall
    outcome: Outcome
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """Format check, recording, choice of target, builds."""

    reader: Reader
    cache: BuildCache
    recorder: Recorder
    builder: Builder
    executors: Callable[[], Sequence[Heartbeat]]
    settings: Settings

    async def compile(self, request: CheckRequested, report: Report) -> Ready | Failure:
        """Everything between a request and its build.

        Raises:
            Retry: this machine could not do it; another may.
        """
        await report("format", "checking the form of candidate and reference")
        kind = _known_kind(request)
        if isinstance(kind, Failure):
            return kind
        form = await read_form(self.reader, request)
        if isinstance(form, Failure):
            return form
        executors = self.executors()
        arch = choose_arch(request.options, self.settings.cuda_arch_list, executors)
        calls = await self._calls(request, kind, arch, form.sites)
        if isinstance(calls, Failure):
            return calls
        target = choose_target(request.options, request.candidate, calls, executors, arch=arch)
        if isinstance(target, str):
            return format_failure(target)
        reading = await read_findings(self.reader, request, calls, low_types=form.low_types)
        return await self._build_all(request, calls, target, report, reading=reading)

    async def _calls(
        self, request: CheckRequested, kind: Kind, arch: str, sites: Sequence[Site]
    ) -> tuple[ExtensionCall, ...] | Failure:
        if not kind.builds_extensions:
            return ()
        calls = await self.recorder.calls(request, arch=arch, sites=sites)
        if isinstance(calls, Failure):
            return calls
        reason = next((found for call in calls if (found := refused_flag(call)) is not None), None)
        return calls if reason is None else format_failure(reason)

    async def _build_all(
        self,
        request: CheckRequested,
        calls: Sequence[ExtensionCall],
        target: Target,
        report: Report,
        *,
        reading: Reading,
    ) -> Ready | Failure:
        started = time.monotonic()
        done: list[_Done] = []
        for number, call in enumerate(calls, start=1):
            await report("compile", f"building `{call.name}` ({number} of {len(calls)})")
            try:
                outcome, was_there = await self._build(request, call, target)
            except BuildTimeout as error:
                build = self._record(done, target, started)
                return _refusal(
                    Verdict.COMPILE_TIMEOUT, f"extension `{call.name}`: {error}", error.log, build
                )
            done.append(_Done(call, outcome, was_there))
            if not outcome.built:
                build = self._record(done, target, started)
                return _refusal(Verdict.COMPILE_ERROR, outcome.message, outcome.log, build)
        build = self._record(done, target, started) if done else BuildRecord(toolchain=self._versions())
        extensions = [_extension(item) for item in done]
        return Ready(target=target, extensions=extensions, build=build, reading=reading)

    async def _build(
        self, request: CheckRequested, call: ExtensionCall, target: Target
    ) -> tuple[Outcome, bool]:
        asked_s = request.options.compile_timeout_s or self.settings.compile_timeout_s
        # Not what is left until the deadline, which ends the wait itself: builds are shared by those with one timeout.
        timeout_s = min(self.settings.compile_timeout_s, asked_s)

        async def build() -> Built:
            return await self.builder.build(call, arch=target.arch, timeout_s=timeout_s)

        key = build_key(call, target.arch, self.builder.toolchain)
        return await self.cache.get_or_build(key, build, timeout_s=timeout_s)

    def _record(self, done: Sequence[_Done], target: Target, started: float) -> BuildRecord:
        """What it took: only what was built now costs CPU, a look-up does not."""
        new = [item.outcome for item in done if not item.was_there]
        return BuildRecord(
            recipe="fast" if done and all(item.outcome.recipe == "fast" for item in done) else "stock",
            fallback=next((item.outcome.fallback for item in done if item.outcome.fallback), ""),
            cache="hit" if done and not new else "miss",
            cpu_s=sum(outcome.cpu_s for outcome in new),
            wall_s=time.monotonic() - started,
            peak_memory_bytes=max((outcome.peak_memory_bytes for outcome in new), default=0),
            arch=target.arch,
            toolchain=self._versions(),
            diagnostics=[message for item in done for message in item.outcome.diagnostics],
            ptxas=[facts for item in done for facts in item.outcome.ptxas],
        )

    def _versions(self) -> dict[str, str]:
        return dict(self.builder.toolchain.versions)


def _known_kind(request: CheckRequested) -> Kind | Failure:
    try:
        return kind_named(request.kind)
    except BadRequest as error:
        return Failure(
            verdict=Verdict.INFRA_ERROR, stage="format", message=str(error), failure_kind="unknown_kind"
        )


def _refusal(verdict: Verdict, message: str, log: str, build: BuildRecord) -> Failure:
    return Failure(verdict=verdict, stage="compile", message=message, log=log, build=build)


def _extension(item: _Done) -> Extension:
    return Extension(
        name=item.call.name,
        call=item.call.digest(),
        artifact=item.outcome.artifact,
        size=item.outcome.size,
    )
