"""Choosing the tier: from the top down, the first on which a real cell comes up and holds what is thrown at it.

Nothing is concluded from versions, sysctls or capabilities: what a host allows depends on too many of them. A cell is
made by the same code that makes all others, and in it run the same probes as in the tests (:mod:`probes`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keck_sandbox.collect import remove_tree
from keck_sandbox.inside import landlock
from keck_sandbox.policy import Policy
from keck_sandbox.process import spawn
from keck_sandbox.selftest import run_probes
from keck_sandbox.tier import Tier, set_tier, use_tier

__all__ = ["Standing", "TooWeak", "climb"]

_GPU_S = 60.0
_REMEDIES = (
    "Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined for tier A, or root for tier B",
    "Kubernetes: hostUsers: false with procMount: Unmasked, which gives tier A in the pod",
    "Ubuntu 23.10 and later: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run Keck as root",
    "root with an interpreter below /root: install Python and Keck where other users can read them, for tier B",
)
# What CUDA itself asks for, and no torch: a driver that cannot be woken here would fail every check.
_WAKE_DRIVER = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
steps = (
    ("cuInit", lambda: cuda.cuInit(0)),
    ("cuDevicePrimaryCtxRetain", lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)),
)
for name, step in steps:
    error = step()
    if error:
        sys.exit(f"{name} fails with {error}")
"""


class TooWeak(Exception):
    """This host does not allow what was asked for; the message says what failed, and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The tier in force, and what is known of it: the vector that heartbeats and verdicts carry."""

    level: Tier
    user: str
    """``own``: cells have users that nothing else has; ``service``: they run as the service's user."""
    landlock: int
    """Version of the kernel's Landlock; 0: none."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """What was probed: ``ok``, or what is open."""
    failed: tuple[str, ...] = ()
    """What stood in the way of each stronger tier."""
    probes: int = 0
    """How many attacks were tried, and held."""

    @property
    def summary(self) -> str:
        """One line: the tier, and whatever is not whole."""
        open_ = [f"{name} {state}" for name, state in self.properties.items() if not state.startswith("ok")]
        return f"tier {self.level} ({self.probes} probes held)" + (f"; {', '.join(open_)}" if open_ else "")


async def climb(
    *, at_least: Tier = Tier.C, only: Tier | None = None, env: Mapping[str, str] | None = None,
    devices: Sequence[Path] = (),
) -> Standing:  # fmt: skip
    """Find the strongest tier this host allows and make it the one in force.

    Args:
        at_least: the floor.
        only: this tier and no other.
        env, devices: of a GPU that must work in the cells.

    Raises:
        TooWeak: nothing on or above the floor works.
    """
    failed: list[str] = []
    for tier in Tier if only is None else (only,):
        if tier.rank > at_least.rank and only is None:
            break
        problem, standing = await _try(tier, env or {}, devices)
        if not problem:
            set_tier(tier)
            return _with(standing, failed)
        failed.append(f"{tier}: {problem}")
    wanted = f"tier {only}" if only is not None else f"tier {at_least} or better"
    raise TooWeak(
        f"no cell of {wanted} can be made on this host.\n"
        + "".join(f"  {line}\n" for line in failed)
        + "What helps:\n"
        + "".join(f"  {line}\n" for line in _REMEDIES)
        + "KECK_SANDBOX_MIN=X runs candidates without isolation: they can then do all that this user can"
    )


async def _try(tier: Tier, env: Mapping[str, str], devices: Sequence[Path]) -> tuple[str, Standing]:
    """What is wrong with a tier here (empty: nothing), and its vector."""
    root = os.getuid() == 0
    user = "own" if root and tier not in (Tier.C, Tier.X) else "service"
    bare = Standing(level=tier, user=user, landlock=landlock.abi())
    if tier is Tier.X:
        return "", _with(bare, [], properties={"isolation": "none"})
    impossible = _impossible(tier, root=root)
    if impossible:
        return impossible, bare
    try:
        with use_tier(tier):
            report = await run_probes(tier)
            if report.failed:
                return f"not held: {', '.join(report.failed)}", bare
            if devices:
                await _wake_driver(env, devices)
    except (OSError, TimeoutError) as error:
        return str(error) or "the cell did not come up", bare
    return "", _with(bare, [], properties=report.properties, probes=report.passed)


def _impossible(tier: Tier, *, root: bool) -> str:
    """Why a tier need not be tried; empty: it is to be."""
    if tier is Tier.B and not root:
        return "only root can give cells a user of their own"
    if tier is Tier.C and root:
        return "a cell of root's own would be root itself"
    if not tier.has_namespaces and not landlock.abi():
        return "the kernel has no Landlock"
    return ""


async def _wake_driver(env: Mapping[str, str], devices: Sequence[Path]) -> None:
    """Raises OSError if CUDA does not come up in a cell."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="keck-canary-"))
    try:
        policy = Policy(name="canary", directory=directory, env=env, devices=tuple(devices), shares_user=True)
        process = await spawn(policy, [sys.executable, "-I", "-S", "-c", _WAKE_DRIVER])
        ended = await process.wait(_GPU_S)
        await process.kill()
        if ended is None or ended.code != 0:
            raise OSError(f"the GPU's driver does not come up in a cell: {process.output().strip()[-300:]}")
    finally:
        await asyncio.to_thread(remove_tree, directory)


def _with(
    standing: Standing, failed: Sequence[str], *, properties: Mapping[str, str] | None = None,
    probes: int | None = None,
) -> Standing:  # fmt: skip
    return Standing(
        level=standing.level,
        user=standing.user,
        landlock=standing.landlock,
        properties=standing.properties if properties is None else properties,
        failed=tuple(failed) or standing.failed,
        probes=standing.probes if probes is None else probes,
    )
