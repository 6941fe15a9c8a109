"""The set of problems like KernelBench's: what is in it, and that its Triton candidates are right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from keck.evaluation import entries_in
from keck.kinds import kind_named

SET = Path(__file__).parents[1] / "kernelbench"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    subprocess.run([sys.executable, str(SET / "make.py"), str(folder), "--small"], check=True)
    return folder


def test_it_is_read_by_kernelbenchs_naming_and_every_file_is_of_the_right_form(small: Path) -> None:
    found = entries_in(small, small)
    kind = kind_named("kernel")
    assert found.unanswered == []
    assert [kind.candidate_problem(entry.candidate) for entry in found.entries] == [None] * len(found.entries)
    assert [kind.reference_problem(entry.reference) for entry in found.entries] == [None] * len(found.entries)
    problems = Counter(level for level, _ in {(entry.level, entry.problem) for entry in found.entries})
    assert sum(problems.values()) >= 60
    assert set(problems) == {1, 2, 3}
    in_cuda = [entry for entry in found.entries if "load_inline" in entry.candidate]
    in_triton = [entry for entry in found.entries if "@triton.jit" in entry.candidate]
    assert len(in_triton) == sum(problems.values())
    assert len(in_cuda) >= 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_triton_candidates_are_right_in_the_interpreter(small: Path) -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SET / "interpret.py"), str(small)],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "65 compared, 0 differ" in done.stdout
