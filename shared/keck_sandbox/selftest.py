"""Attacking a cell of a tier before anything is entrusted to it, and looking from outside at what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keck_sandbox.collect import remove_tree
from keck_sandbox.inside import probes
from keck_sandbox.policy import Policy
from keck_sandbox.process import spawn
from keck_sandbox.tier import Tier

__all__ = ["Report", "probe_cell", "run_probes", "victims"]

_WAIT_S = 30.0
_MAY_BE_OPEN = {
    # Landlock does not govern stat(2); only a root of one's own hides what exists.
    "stat_outside": (Tier.B, Tier.C),
}
_PARTIAL = "partial: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the probes found."""

    passed: int = 0
    failed: tuple[str, ...] = ()
    """Probes that got through and may not."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """For each property ``ok``, or what is open of it."""


async def run_probes(tier: Tier) -> Report:
    """Run every probe in a cell of the tier in force, which is `tier`.

    Raises:
        OSError: the cell cannot be made, or the probes did not end as they should.
    """
    with victims() as facts:
        outcomes = await probe_cell(facts)
        seen = _effects(facts)
    got_through = {name for name, outcome in outcomes.items() if not outcome.startswith("blocked")} | seen
    allowed = {name for name, tiers in _MAY_BE_OPEN.items() if tier in tiers}
    properties = {what: "ok" for what, _ in probes.PROBES.values()}
    for name in sorted(got_through & set(probes.PROBES)):
        properties[probes.PROBES[name][0]] = f"open: {name}"
    return Report(
        passed=len(outcomes) - len(got_through),
        failed=tuple(sorted(got_through - allowed)),
        properties=properties | _by_construction(tier),
    )


async def probe_cell(facts: Mapping[str, Any]) -> dict[str, str]:
    """What each probe says, from a cell of the tier in force.

    Raises:
        OSError: the cell cannot be made, or its program did not get to its end.
    """
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="keck-probe-"))
    try:
        told = {name: value for name, value in facts.items() if not name.startswith("_")}
        # The secret itself would be in the command line, which every process of the cell can read.
        told["secret"] = facts["secret"][::-1]
        program = str(Path(probes.__file__))
        process = await spawn(
            Policy(name="probe", directory=directory), [sys.executable, "-I", "-S", program, json.dumps(told)]
        )
        ended = await process.wait(_WAIT_S)
        await process.kill()
        if ended is None or ended.code != 0:
            raise OSError(f"the probes did not end well: {process.output()[-500:]}")
        outcomes: dict[str, str] = json.loads(process.output().splitlines()[-1])
        return outcomes
    finally:
        await asyncio.to_thread(remove_tree, directory)


@contextlib.contextmanager
def victims() -> Iterator[dict[str, Any]]:
    """What the probes attack: a file, listeners, and this process; names with an underscore are not told to them."""
    with (
        tempfile.TemporaryDirectory(prefix="keck-victim-") as name,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as abstract,
    ):
        directory = Path(name)
        directory.chmod(0o777)
        marker = directory / "marker"
        marker.write_text("marker")
        marker.chmod(0o666)
        address = f"keck-victim-{secrets.token_hex(8)}"
        abstract.bind(f"\0{address}")
        abstract.listen()
        for listener in (tcp, abstract):
            listener.setblocking(False)
        secret = secrets.token_hex(16)
        os.environ["KECK_SELFTEST_SECRET"] = secret
        try:
            yield {
                "pid": os.getpid(), "marker": str(marker), "directory": name, "size": marker.stat().st_size,
                "port": tcp.getsockname()[1], "socket": address, "secret": secret,
                "_listeners": {"connect_tcp": tcp, "connect_abstract": abstract}, "_stat": marker.stat(),
            }  # fmt: skip
        finally:
            del os.environ["KECK_SELFTEST_SECRET"]


def _effects(facts: Mapping[str, Any]) -> set[str]:
    """Probes whose effect is there, whatever they said."""
    seen = set()
    for name, listener in facts["_listeners"].items():
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            seen.add(name)
    if os.path.exists(f"{facts['directory']}/new"):
        seen.add("create_beside_marker")
    now, before = os.stat(facts["marker"]), facts["_stat"]
    if (now.st_mode, now.st_mtime_ns, now.st_size) != (before.st_mode, before.st_mtime_ns, before.st_size):
        seen.add("append_to_marker")
    return seen


def _by_construction(tier: Tier) -> dict[str, str]:
    """What is not attacked at every start, and is as good as the mechanism."""
    return {
        "kill_tree": "ok: pid namespace" if tier is Tier.A else _PARTIAL + "process group",
        "memory": _PARTIAL + "looked at every 50 ms, no cgroup",
        "disk": "ok: tmpfs" if tier.has_namespaces else _PARTIAL + "size of a file",
        "gpu_driver": "exposed: it is reached by ioctl in every tier",
    }
