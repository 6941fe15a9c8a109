"""The examples that need a running system, run as they stand."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from keck.embedded import Embedded

EXAMPLES = Path(__file__).parents[2] / "examples"
WITHIN_S = 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 60), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedded]:
    directory = tmp_path_factory.mktemp("examples")
    async with Embedded(
        directory=directory, devices=("cpu",), settings_env={"COMPILER_CPUS": "1"}
    ) as running:
        yield running


@pytest.mark.parametrize("scheme", ["http", "nats"])
async def test_the_grpo_like_loop_learns_and_masks(system: Embedded, scheme: str) -> None:
    url = getattr(system, f"{scheme}_url")
    command = [sys.executable, str(EXAMPLES / "grpo_loop.py"), url, "--steps", "2", "--group", "6"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    steps = [line for line in done.stdout.splitlines() if line.startswith("step")]
    assert len(steps) == 2
    assert all("12 samples" in line for line in steps)
    # Whatever has a candidate and the broken reference is masked; prose never is.
    verdicts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    masked = sum(int(found) for found in re.findall(r"(\d+) masked", done.stdout))
    assert verdicts["reference_error"] == masked > 0
    assert sum(verdicts.values()) == 24
