"""One extension, built with the stock recipe in a cell of its own."""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from keck.artifacts import MAX_ARTIFACT_BYTES
from keck.errors import Retry
from keck.hashing import digest_of
from keck.messages import MAX_LOG_BYTES
from keck.scratch import scratch_directory
from keck_cell import ExtensionCall
from keck_compiler.build_log import capped, shortened
from keck_compiler.diagnostics import first_error, parse_diagnostics, parse_ptxas
from keck_compiler.outcome import Outcome
from keck_compiler.spawning import spawn_cell
from keck_compiler.target import DEFAULT_ARCH
from keck_compiler.toolchain import Toolchain
from keck_sandbox import Exit, Policy
from keck_sandbox.collect import CellFileError, read_file

__all__ = ["BuildTimeout", "Builder", "Built", "build_key"]

RECIPE = "stock-1"
"""Changes whenever the same call would build something else."""
_COMPILERS_REFUSED = 1
_ARGUMENTS_REFUSED = 3
_FREE_BYTES_NEEDED = 64 << 20


class BuildTimeout(Exception):
    """The build was not done in time; its whole process tree is gone."""

    def __init__(self, timeout_s: float, log: str) -> None:
        super().__init__(f"the build took longer than {timeout_s:g} s")
        self.log = log


@dataclass(frozen=True, slots=True)
class Built:
    """An outcome, with the shared object where there is one."""

    outcome: Outcome
    module: bytes


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

    async def build(self, call: ExtensionCall, *, arch: str, timeout_s: float) -> Built:
        """Build one extension.

        Raises:
            BuildTimeout: it took too long.
            Retry: this machine could not do it; another may.
        """
        if call.uses_cuda and self.toolchain.cuda_home is None:
            raise Retry("this compiler has no CUDA toolkit", delay_s=5.0, failure_kind="no_cuda_toolkit")
        with scratch_directory("build") as directory:
            (directory / "call.json").write_text(call.to_json())
            kills_before = _machine_memory_kills()
            ended, log, module = await self._run(call, directory, arch, timeout_s)
            if ended is None:
                raise BuildTimeout(timeout_s, log)
            if ended.code == 0:
                return _built(call, ended, log, module)
            _blame_machine(directory, ended, log, killed=_machine_memory_kills() > kills_before)
            return Built(_refused(call, ended, log), b"")

    async def _run(
        self, call: ExtensionCall, directory: Path, arch: str, timeout_s: float
    ) -> tuple[Exit | None, str, bytes | str]:
        """How the build ended (None: it was not done in time), its log, and the module or why there is none."""
        env = self.toolchain.environment() | {"MAX_JOBS": str(self.max_jobs)}
        if arch or call.uses_cuda:
            # Without device code no architecture matters, but torch asks the GPU for one where none is named.
            env["TORCH_CUDA_ARCH_LIST"] = arch or DEFAULT_ARCH
        home = self.toolchain.cuda_home
        policy = Policy(
            name="build",
            directory=directory,
            env=env,
            readable=(home,) if home else (),
            processes=512,
            work_bytes=1 << 30,
            file_bytes=256 << 20,
            memory_bytes=self.memory_bytes * self.max_jobs,
            address_space_bytes=self.memory_bytes,
            cpu_s=math.ceil(timeout_s) + 1,
            output_bytes=MAX_LOG_BYTES,
        )
        process = await spawn_cell(policy, [sys.executable, "-P", "-m", "keck_compiler.cell.build"])
        module: bytes | str = "it did not end well"
        try:
            ended = await process.wait(timeout_s)
            if ended is not None and ended.code == 0:
                module = await asyncio.to_thread(_module, process.work_fd, call)
        finally:
            await process.kill()
        return ended, capped(shortened(process.output(), directory=policy.work, cuda_home=home)), module


def _module(work_fd: int, call: ExtensionCall) -> bytes | str:
    """The shared object, or why there is none. Never parsed here: it is hostile until a cell has loaded it."""
    try:
        return read_file(work_fd, f"{call.name}.so", below="work", limit_bytes=MAX_ARTIFACT_BYTES)
    except CellFileError as error:
        return str(error)


def _built(call: ExtensionCall, ended: Exit, log: str, module: bytes | str) -> Built:
    if isinstance(module, str):
        return Built(_refused(call, ended, log, message=f"the build left no module: {module}"), b"")
    outcome = Outcome(
        cpu_s=ended.cpu_s,
        wall_s=ended.wall_s,
        peak_memory_bytes=ended.peak_memory_bytes,
        diagnostics=parse_diagnostics(log),
        ptxas=parse_ptxas(log),
    )
    return Built(outcome, module)


def _refused(call: ExtensionCall, ended: Exit, log: str, *, message: str = "") -> Outcome:
    diagnostics = parse_diagnostics(log)
    if ended.over_memory:
        message = f"the build was {ended.described}"
    said = message or first_error(diagnostics) or f"the build {ended.described}"
    return Outcome(
        cpu_s=ended.cpu_s,
        wall_s=ended.wall_s,
        peak_memory_bytes=ended.peak_memory_bytes,
        diagnostics=diagnostics,
        message=f"extension `{call.name}`: {said}",
        log=log,
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
    if ended.code not in (_COMPILERS_REFUSED, _ARGUMENTS_REFUSED):
        last = (log.strip().splitlines() or [""])[-1]
        raise Retry(f"the build program {ended.described}: {last}"[:500], failure_kind="build_program")


def _machine_memory_kills() -> int:
    """How often the kernel has killed for memory: its own count, which no candidate can forge."""
    with open("/proc/vmstat", encoding="ascii") as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
