"""Start-up self-test: placeholder until the probes land (branch `probes`)."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keck_sandbox.policy import Policy
from keck_sandbox.process import spawn
from keck_sandbox.tier import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the probes found."""

    passed: int = 0
    failed: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


async def run_probes(tier: Tier) -> Report:
    """One cell that says hello."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="keck-probe-"))
    try:
        process = await spawn(
            Policy(name="probe", directory=directory), [sys.executable, "-I", "-S", "-c", "print(1)"]
        )
        ended = await process.wait(10)
        await process.kill()
        if ended is None or ended.code:
            return Report(failed=(process.output(),))
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    return Report(passed=1)
