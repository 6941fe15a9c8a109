"""Whether builds are made fast on this machine, found out once for a toolchain by trying, and kept.

What it takes lies below ``KECK_STATE_DIR``, a directory for each toolchain: made by the first compiler that needs it,
under a lock, and used by all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec

from keck.errors import Retry
from keck.hashing import digest_of
from keck.logs import logger
from keck.scratch import scratch_directory
from keck_cell import ExtensionCall
from keck_compiler.builder import Builder
from keck_compiler.built import BuildTimeout
from keck_compiler.device_code import kernel_code
from keck_compiler.lean.commands import read_ninja
from keck_compiler.lean.index import Index
from keck_compiler.lean.prepare import FLAGS, INDEX, Flags
from keck_compiler.lean.probes import BINDING_PROBE, DEVICE_PROBE, DEVICE_PROBE_BARE
from keck_compiler.lean.toolchain import LeanToolchain
from keck_compiler.spawning import spawn_cell
from keck_compiler.toolchain import Toolchain
from keck_compiler.zygote import BuildZygote
from keck_sandbox import Policy, Process
from keck_sandbox.collect import CellFileError, read_file

__all__ = ["FastRecipe", "Verdict", "recipe_directory", "recipe_verdict"]

_VERDICT = "verdict.json"
_PREPARE_S = 600.0
_PROBE_S = 300.0
_PROBE_ARCH = "8.0"
_LOCK_POLL_S = 0.2
_AGAIN_S = 600.0
_MEMORY_BYTES = 8 << 30
_KEPT = 4
"""Toolchains whose half of the recipe (0.2 GB) stays on disk."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the self-test found; kept beside what it tested."""

    fast: bool
    reason: str = ""
    """Why not."""
    toolchain: dict[str, str] = {}
    """For people, and for ``keck doctor``."""


class Unfit(Exception):
    """The fast recipe is not used with this toolchain; the message says why."""


def recipe_directory(state: Path, toolchain: Toolchain) -> Path:
    """Where a toolchain's half of the fast recipe lies."""
    versions = [f"{name}={version}" for name, version in sorted(toolchain.versions.items())]
    return state / "recipes" / digest_of(_code(), sys.prefix, *versions)[:32]


def recipe_verdict(directory: Path) -> Verdict | None:
    """What a compiler found out earlier; None: none has."""
    try:
        return msgspec.json.decode((directory / _VERDICT).read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def _code() -> str:
    """Digest of the recipe's own code: another one makes and tests everything again."""
    here = Path(__file__).parent
    files = [*sorted((here / "lean").glob("*.py")), here / "cell" / "lean.py", here / "cell" / "build.py"]
    return digest_of(*(file.read_text() for file in files))


class FastRecipe:
    """One compiler's use of it.

    Args:
        toolchain: what builds are made with.
        state: the service's state directory.
        wanted: ``stock`` never prepares anything.
        zygote: what the probes are forked from.
    """

    def __init__(
        self,
        toolchain: Toolchain,
        state: Path,
        *,
        wanted: Literal["auto", "stock"] = "auto",
        zygote: BuildZygote | None = None,
    ) -> None:
        self._toolchain = toolchain
        self._zygote = zygote
        self._directory = recipe_directory(state, toolchain)
        self._lean: LeanToolchain | None = None
        self._task: asyncio.Task[None] | None = None
        self._again_at = math.inf
        """When to try again what this machine could not do."""
        self.distrusted = False
        """Whether a fast build was found to differ from a stock one."""
        self.reason = "KECK_RECIPE=stock" if wanted == "stock" else ""
        """Why builds are stock; empty as long as that is not known."""

    @property
    def described(self) -> str:
        """For heartbeats: ``fast``, ``stock: why``, or ``not tried yet``."""
        if self.reason:
            return f"stock: {self.reason}"
        return "fast" if self._lean is not None else "not tried yet"

    async def lean(self) -> LeanToolchain | None:
        """What to build with, made now if it is not there; None: build stock."""
        if self.reason and time.monotonic() >= self._again_at:
            self.reason, self._task, self._again_at = "", None, math.inf
        if self.reason:
            return None
        if self._lean is None:
            if self._task is None:
                self._task = asyncio.create_task(self._prepare(), name="fast recipe")
            # One build that is cancelled must not take it from the others.
            await asyncio.shield(self._task)
        return None if self.reason else self._lean

    def distrust(self, reason: str) -> None:
        """Build stock from now on, here and wherever this directory is used."""
        self.reason, self.distrusted = reason, True
        self._keep(self._verdict(reason))
        logger().error("fast_recipe_distrusted", reason=reason)

    async def close(self) -> None:
        """End what is being made."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _prepare(self) -> None:
        try:
            async with self._locked():
                found = await asyncio.to_thread(recipe_verdict, self._directory)
                if found is None:
                    found = await self._make()
                self.reason = "" if found.fast else found.reason
                if found.fast:
                    self._lean = await asyncio.to_thread(self._load)
        except (OSError, Retry, TimeoutError) as error:
            # This machine's trouble, perhaps a passing one: nothing is kept, and it is tried again.
            self.reason = str(error)[:300] or type(error).__name__
            self._again_at = time.monotonic() + _AGAIN_S
        except (ValueError, KeyError) as error:
            # What was kept is damaged: the next compiler makes it anew.
            self.reason = f"what was prepared is unreadable: {error}"[:300]
            (self._directory / _VERDICT).unlink(missing_ok=True)
        logger().info("fast_recipe", recipe=self.described)

    async def _make(self) -> Verdict:
        await asyncio.to_thread(self._clear)
        try:
            await self._derive()
            await self._test(await asyncio.to_thread(self._load))
        except Unfit as error:
            verdict = self._verdict(str(error)[:300])
        else:
            verdict = self._verdict("")
        self._keep(verdict)
        await asyncio.to_thread(_forget_others, self._directory)
        return verdict

    def _verdict(self, reason: str) -> Verdict:
        return Verdict(fast=not reason, reason=reason, toolchain=dict(self._toolchain.versions))

    def _clear(self) -> None:
        for name in self._directory.iterdir():
            if name.is_dir():
                shutil.rmtree(name)
            elif name.name != "lock":
                name.unlink()

    async def _derive(self) -> None:
        """The lean headers and all that belongs to them."""
        flags = await self._flags()
        (self._directory / FLAGS).write_text(flags.to_json())
        process = await asyncio.create_subprocess_exec(
            "nice", sys.executable, "-m", "keck_compiler.lean.prepare", str(self._directory),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_PREPARE_S):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise Unfit(" ".join(said.decode("utf-8", "replace").split())[-300:] or "its preparation failed")

    async def _flags(self) -> Flags:
        """How torch compiles a C++ source, from the ninja file that it writes."""
        call = ExtensionCall(kind="load_inline", name="keck_plan", cpp_sources=("",), with_cuda=False)
        with scratch_directory("plan") as directory:
            (directory / "call.json").write_text(call.to_json())
            policy = Policy(name="plan", directory=directory, env=self._toolchain.environment())
            process = await self._plan(policy)
            try:
                ended = await process.wait(_PROBE_S)
                text = await asyncio.to_thread(
                    read_file, process.work_fd, "build.ninja", below="work", limit_bytes=1 << 20
                )
            except CellFileError as error:
                raise Unfit(f"torch planned no build: {error}; {process.output()[-200:]}") from error
            finally:
                await process.kill()
        if ended is None or ended.code:
            raise Unfit(f"torch planned no build: {process.output()[-200:]}")
        plan = read_ninja(text.decode())
        include = next((flag for flag in plan.cflags if flag.endswith("/torch/include")), "")
        if not include:
            raise Unfit("torch's include directory is not among its flags")
        return Flags(include=include, compiler="c++", cflags=plan.cflags)

    async def _plan(self, policy: Policy) -> Process:
        forked = await self._zygote.fork(policy, ["--plan"]) if self._zygote is not None else None
        argv = [sys.executable, "-P", "-m", "keck_compiler.cell.build", "--plan"]
        return forked or await spawn_cell(policy, argv)

    async def _test(self, lean: LeanToolchain) -> None:
        """The self-test: bindings behave, and device code is that of a build without torch."""
        builder = Builder(
            toolchain=self._toolchain, max_jobs=1, memory_bytes=_MEMORY_BYTES, zygote=self._zygote
        )
        try:
            await self._test_binding(builder, lean)
            if self._toolchain.cuda_home is not None:
                await self._test_device(builder, lean)
        except BuildTimeout as error:
            raise Unfit(f"self-test: {error}") from error

    async def _test_binding(self, builder: Builder, lean: LeanToolchain) -> None:
        built = await builder.build_fast(BINDING_PROBE, lean, arch="", timeout_s=_PROBE_S)
        if built.fallback or not built.module:
            raise Unfit(f"self-test: {built.fallback or built.outcome.message}")
        with scratch_directory("self-test") as directory:
            (directory / f"{BINDING_PROBE.name}.so").write_bytes(built.module)
            policy = Policy(name="self-test", directory=directory, env=self._toolchain.environment())
            process = await spawn_cell(policy, [sys.executable, "-P", "-m", "keck_compiler.cell.self_test"])
            try:
                ended = await process.wait(_PROBE_S)
            finally:
                await process.kill()
            if ended is None or ended.code:
                last = (process.output().strip().splitlines() or ["it said nothing"])[-1]
                raise Unfit(f"self-test: the probe's binding: {last}")

    async def _test_device(self, builder: Builder, lean: LeanToolchain) -> None:
        fast = await builder.build_fast(DEVICE_PROBE, lean, arch=_PROBE_ARCH, timeout_s=_PROBE_S)
        bare = await builder.build_stock(DEVICE_PROBE_BARE, arch=_PROBE_ARCH, timeout_s=_PROBE_S)
        for built in (fast, bare):
            if built.fallback or not built.module:
                raise Unfit(f"self-test: {built.fallback or built.outcome.message}")
        try:
            code, expected = (kernel_code(built.module) for built in (fast, bare))
        except ValueError as error:
            raise Unfit(f"self-test: the device code of the probe cannot be compared: {error}") from error
        if not code or code != expected:
            raise Unfit("self-test: the device code of the probe is not that of a build without torch")

    def _load(self) -> LeanToolchain:
        index = Index.from_json((self._directory / INDEX).read_bytes())
        return LeanToolchain(directory=self._directory, words=index.words)

    def _keep(self, verdict: Verdict) -> None:
        part = self._directory / f"{_VERDICT}.part"
        part.write_bytes(msgspec.json.encode(verdict))
        part.replace(self._directory / _VERDICT)

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """One process at a time makes it; the lock goes with the process that holds it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_LOCK_POLL_S)
            yield


def _forget_others(directory: Path) -> None:
    """Remove what was made for toolchains that have not been used for longest."""
    # The lock is opened, and so touched, by every compiler that uses the directory.
    others = sorted(
        (path for path in directory.parent.iterdir() if path != directory and (path / "lock").exists()),
        key=lambda path: (path / "lock").stat().st_mtime,
        reverse=True,
    )
    for path in others[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
