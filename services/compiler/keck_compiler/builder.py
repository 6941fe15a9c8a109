"""One extension, built in a cell of its own: by the fast recipe, and by the stock one where that is in doubt."""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from keck.artifacts import MAX_ARTIFACT_BYTES
from keck.errors import Retry
from keck.hashing import digest_of
from keck.messages import MAX_LOG_BYTES
from keck.scratch import scratch_directory
from keck_cell import ExtensionCall
from keck_compiler.build_log import capped, shortened
from keck_compiler.built import BuildTimeout, Built
from keck_compiler.diagnostics import first_error, parse_diagnostics, parse_ptxas
from keck_compiler.lean.sure import is_sure
from keck_compiler.lean.toolchain import LeanToolchain, may_be_lean
from keck_compiler.memory_budget import MemoryBudget
from keck_compiler.outcome import Outcome
from keck_compiler.precompiling import Precompiling
from keck_compiler.spawning import spawn_cell
from keck_compiler.target import DEFAULT_ARCH
from keck_compiler.toolchain import Toolchain
from keck_compiler.zygote import BuildZygote
from keck_sandbox import Exit, Policy, Process
from keck_sandbox.collect import CellFileError, read_file

__all__ = ["Builder", "build_key"]

RECIPE = "stock-2"
"""Changes whenever the same call would build something else. The fast recipe builds what the stock one does."""
_COMPILERS_REFUSED = 1
_ARGUMENTS_REFUSED = 3
_IN_DOUBT = 4
_DOUBT_LIMIT_BYTES = 2_000
_STOCK_BYTES = 3_100 << 20
"""What one compiler process takes at most with torch's own headers: cicc, 2.9 GB (torch 2.11)."""
_FAST_BYTES = 900 << 20
"""The same with the lean ones: 0.46 GB, and twice that where a source wants more of them."""
_FREE_BYTES_NEEDED = 64 << 20


def build_key(call: ExtensionCall, arch: str, toolchain: Toolchain) -> str:
    """Hash of everything that decides what a build gives."""
    versions = [f"{name}={version}" for name, version in sorted(toolchain.versions.items())]
    return digest_of(call.digest(), arch if call.has_device_code else "", RECIPE, *versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Runs builds."""

    toolchain: Toolchain
    max_jobs: int
    memory_bytes: int
    lean: Callable[[], Awaitable[LeanToolchain | None]] | None = None
    """What the fast recipe works with, once it is known; None: every build is stock."""
    precompiling: Precompiling | None = None
    """Told the flags of every build that the fast recipe tries."""
    audit: Callable[[ExtensionCall, str, Built], None] | None = None
    """Told every build that the fast recipe answered for."""
    memory: MemoryBudget = field(default_factory=MemoryBudget.of_machine)
    """What all builds take together; they wait for it."""
    zygote: BuildZygote | None = None
    """Where builds are forked from; None: each imports torch by itself."""

    async def build(self, call: ExtensionCall, *, arch: str, timeout_s: float) -> Built:
        """Build one extension: what the stock recipe would give, by the fast one where that is sure.

        Raises:
            BuildTimeout: it took too long.
            Retry: this machine could not do it; another may.
        """
        if call.uses_cuda and self.toolchain.cuda_home is None:
            raise Retry("this compiler has no CUDA toolkit", delay_s=5.0, failure_kind="no_cuda_toolkit")
        lean = await self.lean() if self.lean is not None and may_be_lean(call) else None
        if lean is None:
            return await self.build_stock(call, arch=arch, timeout_s=timeout_s)
        if self.zygote is not None:
            await self.zygote.preload(lean.directory)
        if self.precompiling is not None:
            self.precompiling.note(call, lean)
        fast = await self.build_fast(call, lean, arch=arch, timeout_s=timeout_s)
        if fast.fallback == "":
            if self.audit is not None:
                self.audit(call, arch, fast)
            return fast
        stock = await self.build_stock(call, arch=arch, timeout_s=timeout_s)
        return Built(
            replace(
                stock.outcome,
                cpu_s=stock.outcome.cpu_s + fast.outcome.cpu_s,
                wall_s=stock.outcome.wall_s + fast.outcome.wall_s,
                fallback=fast.fallback,
            ),
            stock.module,
        )

    async def build_stock(self, call: ExtensionCall, *, arch: str, timeout_s: float) -> Built:
        """Build one extension as torch does it.

        Raises:
            BuildTimeout, Retry: as for `build`.
        """
        with scratch_directory("build") as directory:
            attempt = await self._attempt(call, directory, arch, timeout_s)
        if attempt.ended.code == 0:
            return _built(call, attempt)
        return Built(_refused(call, attempt), b"")

    async def build_fast(
        self, call: ExtensionCall, lean: LeanToolchain, *, arch: str, timeout_s: float
    ) -> Built:
        """What the fast recipe makes of it; `fallback` says why that does not count, if it does not.

        Raises:
            BuildTimeout, Retry: as for `build`.
        """
        with scratch_directory("build") as directory:
            attempt = await self._attempt(call, directory, arch, timeout_s, lean=lean)
        if attempt.ended.code == 0:
            built = _built(call, attempt)
            fallback = "" if built.module else built.outcome.message
            return Built(replace(built.outcome, recipe="fast"), built.module, fallback)
        outcome = replace(_refused(call, attempt), recipe="fast")
        if attempt.doubt:
            return Built(outcome, b"", attempt.doubt)
        if attempt.ended.code == _COMPILERS_REFUSED and is_sure(
            outcome.diagnostics, attempt.files, lean.words
        ):
            return Built(outcome, b"")
        return Built(outcome, b"", f"refused: {outcome.message}"[:300])

    async def _attempt(
        self,
        call: ExtensionCall,
        directory: Path,
        arch: str,
        timeout_s: float,
        *,
        lean: LeanToolchain | None = None,
    ) -> _Attempt:
        (directory / "call.json").write_text(call.to_json())
        expected = _STOCK_BYTES if lean is None else _FAST_BYTES
        async with self.memory.reserve(min(expected, self.memory_bytes) * self.max_jobs):
            kills_before = _machine_memory_kills()
            attempt = await self._run(call, directory, arch, timeout_s, lean)
        if attempt.ended.code != 0:
            killed = _machine_memory_kills() > kills_before
            _blame_machine(directory, attempt.ended, attempt.log, killed=killed)
        return attempt

    async def _run(
        self,
        call: ExtensionCall,
        directory: Path,
        arch: str,
        timeout_s: float,
        lean: LeanToolchain | None,
    ) -> _Attempt:
        env = self.toolchain.environment() | {"MAX_JOBS": str(self.max_jobs)}
        if arch or call.uses_cuda:
            # Without device code no architecture matters, but torch asks the GPU for one where none is named.
            env["TORCH_CUDA_ARCH_LIST"] = arch or DEFAULT_ARCH
        home = self.toolchain.cuda_home
        policy = Policy(
            name="build",
            directory=directory,
            env=env,
            readable=(*((home,) if home else ()), *((lean.directory,) if lean else ())),
            processes=512,
            work_bytes=1 << 30,
            file_bytes=256 << 20,
            memory_bytes=self.memory_bytes * self.max_jobs,
            address_space_bytes=self.memory_bytes,
            cpu_s=math.ceil(timeout_s) + 1,
            output_bytes=MAX_LOG_BYTES,
        )
        arguments = ["--lean", str(lean.directory)] if lean is not None else []
        process = await self._cell(policy, arguments)
        module: bytes | str = "it did not end well"
        doubt = ""
        try:
            ended = await process.wait(timeout_s)
            if ended is not None and ended.code == 0:
                module = await asyncio.to_thread(_module, process.work_fd, call)
            elif ended is not None and ended.code == _IN_DOUBT and lean is not None:
                doubt = await asyncio.to_thread(_doubt, process.work_fd)
        finally:
            await process.kill()
        log = capped(shortened(process.output(), directory=policy.work, cuda_home=home))
        if ended is None:
            raise BuildTimeout(timeout_s, log)
        return _Attempt(ended=ended, log=log, module=module, doubt=doubt, files=_own_files(call))

    async def _cell(self, policy: Policy, arguments: Sequence[str]) -> Process:
        forked = await self.zygote.fork(policy, arguments) if self.zygote is not None else None
        if forked is not None:
            return forked
        # -P: a file of the candidate's must not be taken for a module of ours.
        return await spawn_cell(policy, [sys.executable, "-P", "-m", "keck_compiler.cell.build", *arguments])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """How a build ended, and what it left."""

    ended: Exit
    log: str
    module: bytes | str
    """The shared object, or why there is none."""
    doubt: str
    """Why the lean headers will not do."""
    files: frozenset[str]
    """Names under which the candidate's own sources appear in the log."""


def _own_files(call: ExtensionCall) -> frozenset[str]:
    own = [name for name, _ in (*call.files, *call.headers)]
    return frozenset(("main.cpp", "cuda.cu") if call.kind == "load_inline" else ()) | frozenset(own)


def _doubt(work_fd: int) -> str:
    try:
        text = read_file(work_fd, "doubt.txt", limit_bytes=_DOUBT_LIMIT_BYTES).decode("utf-8", "replace")
    except CellFileError as error:
        return str(error)
    return " ".join(text.split())[:300] or "it does not say"


def _module(work_fd: int, call: ExtensionCall) -> bytes | str:
    """The shared object, or why there is none. Never parsed here: it is hostile until a cell has loaded it."""
    try:
        return read_file(work_fd, f"{call.name}.so", below="work", limit_bytes=MAX_ARTIFACT_BYTES)
    except CellFileError as error:
        return str(error)


def _built(call: ExtensionCall, attempt: _Attempt) -> Built:
    if isinstance(attempt.module, str):
        return Built(_refused(call, attempt, message=f"the build left no module: {attempt.module}"), b"")
    outcome = Outcome(
        cpu_s=attempt.ended.cpu_s,
        wall_s=attempt.ended.wall_s,
        peak_memory_bytes=attempt.ended.peak_memory_bytes,
        diagnostics=parse_diagnostics(attempt.log),
        ptxas=parse_ptxas(attempt.log),
    )
    return Built(outcome, attempt.module)


def _refused(call: ExtensionCall, attempt: _Attempt, *, message: str = "") -> Outcome:
    diagnostics = parse_diagnostics(attempt.log)
    if attempt.ended.over_memory:
        message = f"the build was {attempt.ended.described}"
    said = message or first_error(diagnostics) or f"the build {attempt.ended.described}"
    return Outcome(
        cpu_s=attempt.ended.cpu_s,
        wall_s=attempt.ended.wall_s,
        peak_memory_bytes=attempt.ended.peak_memory_bytes,
        diagnostics=diagnostics,
        message=f"extension `{call.name}`: {said}",
        log=attempt.log,
    )


def _blame_machine(directory: Path, ended: Exit, log: str, *, killed: bool) -> None:
    """Infrastructure never counts against a candidate.

    Raises:
        Retry: the build failed for want of memory or disk on this machine, or the build program itself did.
    """
    if killed:
        raise Retry("the machine ran out of memory during the build", failure_kind="out_of_memory")
    if shutil.disk_usage(directory).free < _FREE_BYTES_NEEDED:
        raise Retry("the machine ran out of disk space during the build", failure_kind="out_of_disk")
    if ended.over_memory:
        return  # its own doing: the cell's limit, not the machine's
    if ended.code not in (_COMPILERS_REFUSED, _ARGUMENTS_REFUSED, _IN_DOUBT):
        last = (log.strip().splitlines() or [""])[-1]
        raise Retry(f"the build program {ended.described}: {last}"[:500], failure_kind="build_program")


def _machine_memory_kills() -> int:
    """How often the kernel has killed for memory: its own count, which no candidate can forge."""
    with open("/proc/vmstat", encoding="ascii") as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
