"""`keck batch` on a folder like KernelBench's, judged for real by a private system on the CPU device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHIN_S = 280.0
KECK = [sys.executable, "-m", "keck.cli"]

RELU = """\
import torch
import torch.nn as nn


class Model(nn.Module):
    \"\"\"
    Simple model that performs a ReLU activation.
    \"\"\"
    def __init__(self):
        super(Model, self).__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


batch_size = 16
dim = 1024


def get_inputs():
    x = torch.randn(batch_size, dim)
    return [x]


def get_init_inputs():
    return []  # No special initialization inputs needed
"""
LINEAR = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, in_features, out_features, scale):
        super(Model, self).__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.register_buffer("offset", torch.full((out_features,), 0.5))
        self.scale = scale

    def forward(self, x):
        return F.gelu(self.linear(x) * self.scale + self.offset)


def get_inputs():
    return [torch.randn(32, 64)]


def get_init_inputs():
    return [64, 48, 0.5]
"""
INTEGERS = """\
import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self):
        super(Model, self).__init__()

    def forward(self, table, index):
        return table[index].sum(dim=-1)


def get_inputs():
    return [torch.randn(100, 8).to(torch.bfloat16), torch.randint(0, 100, (64, 4))]


def get_init_inputs():
    return []
"""
OLD_IMPORTS = """\
import math
import os
import numpy as np
from typing import Optional

from torch.utils.cpp_extension import load_inline

"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 60)]


def test_a_kernelbench_folder_is_judged_as_it_is(tmp_path: Path) -> None:
    problems, runs = tmp_path / "KernelBench", tmp_path / "runs"
    generations = {}
    for number, (level, name, reference) in enumerate(
        [(1, "19_ReLU", RELU), (2, "76_Gemm_Add_GELU", LINEAR), (3, "5_Lookup", INTEGERS)]
    ):
        place = problems / f"level{level}"
        place.mkdir(parents=True)
        (place / f"{name}.py").write_text(reference)
        right = OLD_IMPORTS + reference.replace("class Model(", "class ModelNew(").replace(
            "super(Model,", "super(ModelNew,"
        )
        stem = f"level_{level}_problem_{name.partition('_')[0]}"
        generations[f"{stem}_sample_0_kernel.py"] = right
        if number == 0:
            generations[f"{stem}_sample_1_kernel.py"] = right.replace("torch.relu(x)", "torch.relu(x) + 1")
            generations[f"{stem}_sample_2_kernel.md"] = f"Here is the kernel:\n\n```python\n{right}```\n"
            generations[f"{stem}_sample_3_kernel.py"] = "I could not do it."
    runs.mkdir()
    for file, text in generations.items():
        (runs / file).write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    done = subprocess.run(
        [*KECK, "batch", str(problems), str(runs), "--device", "cpu", "--timed-calls", "5", "--correctness-sets", "2",
         "--report", str(tmp_path / "report"), "--json"],
        env=clean | {"KECK_STATE_DIR": str(tmp_path / "state"), "COMPILER_CPUS": "1"},
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    verdicts = {
        line["name"]: line["verdict"]["verdict"]
        for line in map(json.loads, (runs / "keck-results.jsonl").read_text().splitlines())
    }
    assert verdicts == {
        "level_1_problem_19_sample_0": "passed",
        "level_1_problem_19_sample_1": "wrong_result",
        "level_1_problem_19_sample_2": "passed",
        "level_1_problem_19_sample_3": "format_error",
        "level_2_problem_76_sample_0": "passed",
        "level_3_problem_5_sample_0": "passed",
    }
    titles = [one["title"] for one in said["summaries"]]
    assert titles == ["all", "level 1", "level 2", "level 3", "best of each problem"]
    assert said["summaries"][0]["correct"] == 4
    assert said["summaries"][0]["speedup"] > 0
    page = (tmp_path / "report.html").read_text()
    assert "device: cpu" in page
    assert page.count("<svg") == 3
