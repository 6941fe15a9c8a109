"""Finding what a candidate builds: its module is run once in a cell, with recorders in place of the builders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keck.messages import CheckRequested
from keck.scratch import scratch_directory
from keck_cell import ExtensionCall, ExtensionCallError
from keck_compiler.failure import Failure, format_failure
from keck_compiler.scan import Site, may_build, missed_sites
from keck_compiler.spawning import spawn_cell
from keck_compiler.target import capability, expects_cuda
from keck_compiler.toolchain import Toolchain
from keck_sandbox import Policy
from keck_sandbox.collect import CellFileError, read_file

__all__ = ["Recorder"]

_RECORDED_LIMIT_BYTES = 48 << 20
_INIT_LIMIT_BYTES = 1 << 20
_MAX_CALLS = 64
_MAX_LINES = 10_000
_HOW = (
    "write it at the top of the module (`ext = load_inline(...)`) or in `ModelNew.__init__`, "
    "where it can be found before the model runs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What one run of the candidate's module showed."""

    calls: tuple[ExtensionCall, ...] = ()
    lines: frozenset[int] = frozenset()
    error: str = ""
    """Why the run ended early, one line; empty if it did not."""
    trace: str = ""
    refused: bool = False
    """The error is a refused call's: its message says what to change."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Runs candidates to see what they build."""

    toolchain: Toolchain
    timeout_s: float
    memory_bytes: int

    async def calls(
        self, request: CheckRequested, *, arch: str, sites: Sequence[Site]
    ) -> tuple[ExtensionCall, ...] | Failure:
        """Every extension the candidate asks for, in order, or why they cannot be known.

        Args:
            request: the candidate and how it is to be checked.
            arch: to pretend to, where the candidate expects a GPU.
            sites: where its text calls builders.
        """
        source = request.candidate
        if not may_build(source):
            return ()
        pretended = capability(arch) if expects_cuda(source, request.options.device) else ""
        run = await self._record(source, arch=pretended)
        missed = missed_sites(sites, run.lines)
        if pretended and any(not site.deferred for site in missed):
            # Told that there is a GPU it went another way, perhaps to use it: try the truth.
            run = _better(run, await self._record(source, arch=""))
        if any(site.deferred for site in missed_sites(sites, run.lines)):
            init = await self._init_inputs(request.reference)
            if init is not None:
                run = _better(run, await self._record(source, arch=pretended, init=init))
        return _judged(run, missed_sites(sites, run.lines))

    async def _record(self, source: str, *, arch: str, init: bytes | None = None) -> _Run:
        with scratch_directory("record") as directory:
            (directory / "candidate.py").write_bytes(source.encode())
            arguments = ["--pretend-arch", arch] if arch else []
            if init is not None:
                (directory / "init.json").write_bytes(init)
                arguments += ["--init", "init.json"]
            ended = await self._run_cell(
                "record", directory, arguments, leaves="recorded.json", limit_bytes=_RECORDED_LIMIT_BYTES
            )
            if ended.left is None:
                return _Run(error=ended.reason, trace=ended.log)
            try:
                return _parsed(ended.left)
            except ExtensionCallError as error:
                return _Run(error=str(error), refused=True)

    async def _init_inputs(self, reference: str) -> bytes | None:
        """What the model is constructed with, or None where that cannot be handed over."""
        with scratch_directory("init") as directory:
            (directory / "reference.py").write_bytes(reference.encode())
            ended = await self._run_cell(
                "init_inputs", directory, [], leaves="init.json", limit_bytes=_INIT_LIMIT_BYTES
            )
            return ended.left

    async def _run_cell(
        self, program: str, directory: Path, arguments: Sequence[str], *, leaves: str, limit_bytes: int
    ) -> _Ended:
        home = self.toolchain.cuda_home
        policy = Policy(
            name="record",
            directory=directory,
            env=self.toolchain.environment(),
            readable=(home,) if home else (),
            processes=512,
            work_bytes=256 << 20,
            memory_bytes=self.memory_bytes,
            data_bytes=self.memory_bytes,
            cpu_s=int(4 * self.timeout_s) + 1,
        )
        # -P: a file of the candidate's must not be taken for a module of ours.
        argv = [sys.executable, "-P", "-m", f"keck_compiler.cell.{program}", *arguments]
        process = await spawn_cell(policy, argv)
        left = None
        try:
            ended = await process.wait(self.timeout_s)
            with contextlib.suppress(CellFileError):
                left = await asyncio.to_thread(read_file, process.work_fd, leaves, limit_bytes=limit_bytes)
        finally:
            await process.kill()
        if ended is None:
            reason = f"importing the candidate took longer than {self.timeout_s:g} s"
        else:
            reason = f"importing the candidate ended its process: {ended.described}"
        return _Ended(reason, process.output(), left)


@dataclass(frozen=True, slots=True)
class _Ended:
    reason: str
    log: str
    left: bytes | None
    """The file it was to write, unless it did not."""


def _parsed(data: bytes) -> _Run:
    """The cell's file, which the candidate may have written itself.

    Raises:
        ExtensionCallError: it is not what a recorder writes.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExtensionCallError("the record of the candidate's extensions is unreadable") from error
    if not isinstance(content, dict):
        raise ExtensionCallError("the record of the candidate's extensions is unreadable")
    calls, lines = content.get("calls"), content.get("lines")
    if not isinstance(calls, list) or not isinstance(lines, list):
        raise ExtensionCallError("the record of the candidate's extensions is unreadable")
    if len(calls) > _MAX_CALLS or len(lines) > _MAX_LINES:
        raise ExtensionCallError("the record of the candidate's extensions is unreadable")
    return _Run(
        calls=tuple(ExtensionCall.from_dict(call) for call in calls),
        lines=frozenset(line for line in lines if isinstance(line, int)),
        error=" ".join(_text(content, "error", 1_000).split()),
        trace=_text(content, "trace", 8_000),
        refused=content.get("refused") is True,
    )


def _text(content: dict[str, object], field: str, limit: int) -> str:
    """A text of the file's as a verdict can carry it: JSON may hold halves of characters, which UTF-8 cannot."""
    value = content.get(field, "")
    return value[:limit].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _better(first: _Run, second: _Run) -> _Run:
    """The run that got further."""
    return second if len(second.calls) > len(first.calls) else first


def _judged(run: _Run, missed: Sequence[Site]) -> tuple[ExtensionCall, ...] | Failure:
    if run.refused:
        return format_failure(run.error, log=run.trace)
    if run.error and any(not site.deferred for site in missed):
        return format_failure(
            f"importing the candidate failed before all its extensions were found: {run.error}", log=run.trace
        )
    if run.calls or not missed:
        # An error after the last call does not matter here: there is no GPU on a builder, and the
        # executor imports the candidate for real.
        return run.calls
    if run.error:
        return format_failure(f"importing the candidate failed: {run.error}", log=run.trace)
    lines = ", ".join(str(site.first_line) for site in missed[:5])
    return format_failure(
        f"the extension built on line {lines} is built neither when the module is imported nor when the "
        f"model is constructed: {_HOW}"
    )
