"""`keck up` and `keck check` as a person runs them, on the CPU device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keck import EvalDone, Verdict
from keck.embedded import gpu_names
from keck.testing import wait_until

WITHIN_S = 240.0
KECK = [sys.executable, "-m", "keck.cli"]
QUICK = ["--timed-calls", "5", "--correctness-sets", "2"]
REFERENCE = """\
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def get_inputs():
    return [torch.randn(64, 64)]


def get_init_inputs():
    return []
"""
RIGHT = REFERENCE.replace("class Model(", "class ModelNew(")
WRONG = RIGHT.replace("torch.relu(x)", "torch.relu(x) + 1")

WEAK = REFERENCE.replace("torch.randn(64, 64)", "torch.rand(64, 64)")
BROKEN = REFERENCE.replace("torch.randn(64, 64)", "1 / 0")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 60)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reference.py, right.py and wrong.py."""
    folder = tmp_path_factory.mktemp("files")
    for name, text in (("reference", REFERENCE), ("right", RIGHT), ("wrong", WRONG)):
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This process's environment without settings of Keck, and a state directory of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    return inherited | {"KECK_STATE_DIR": str(tmp_path_factory.mktemp("state")), "NO_COLOR": "1"}


def check(
    files: Path, candidate: str, *options: str, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """`keck check` of one of the files."""
    return subprocess.run(
        [*KECK, "check", str(files / candidate), str(files / "reference.py"), *QUICK, *options],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        env=environ,
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of references, one of each kind, and a file that is none."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "below").mkdir()
    for name, text in (("sound", REFERENCE), ("weak", WEAK), ("below/broken", BROKEN), ("helper", "x = 1\n")):
        (folder / f"{name}.py").write_text(text)
    return folder


def lint(
    path: Path, *options: str, environ: dict[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """`keck lint` of a file or a folder."""
    return subprocess.run(
        [*KECK, "lint", str(path), *options],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        env=environ,
        input=stdin,
    )


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def system(environ: dict[str, str]) -> Iterator[dict[str, Any]]:
    """`keck up` in the background; afterwards Ctrl-C must leave nothing behind."""
    command = [*KECK, "up", "--devices", "cpu", "--http-port", "0", "--nats-port", "-1", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    with process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        yield where
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    wait_until(lambda: not any(map(_running, where["services"].values())))


def test_a_private_system_judges_and_leaves_nothing_behind(files: Path, environ: dict[str, str]) -> None:
    result = check(files, "right.py", "--device", "cpu", "--json", environ=environ)
    assert result.returncode == 0, result.stderr
    event = msgspec.json.decode(result.stdout, type=EvalDone)
    assert event.verdict is Verdict.PASSED
    stages = [line.partition("] ")[2].partition(":")[0] for line in result.stderr.splitlines()]
    assert [stage for stage in stages if stage in ("format", "compiled", "correctness")] == [
        "format",
        "compiled",
        "correctness",
    ]


def test_a_wrong_candidate_exits_1_over_http(
    files: Path, environ: dict[str, str], system: dict[str, Any]
) -> None:
    result = check(files, "wrong.py", "--url", system["http_url"], environ=environ)
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[0].split() == ["verdict", "wrong_result"]
    assert "elements outside" in result.stdout


def test_a_right_candidate_exits_0_over_nats(
    files: Path, environ: dict[str, str], system: dict[str, Any]
) -> None:
    result = check(files, "right.py", environ=environ | {"KECK_NATS_URL": system["nats_url"]})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].split() == ["verdict", "passed"]
    assert "speedup" in result.stdout


def test_a_folder_of_references_is_linted_as_a_table(
    tasks: Path, environ: dict[str, str], system: dict[str, Any]
) -> None:
    result = lint(tasks, "--url", system["http_url"], environ=environ)
    assert result.returncode == 1, result.stderr
    heading, *rows, counts = result.stdout.splitlines()
    assert heading.split()[:2] == ["reference", "result"]
    found = {Path(row.split()[0]).name: row for row in rows}
    assert {name: row.split()[1] for name, row in found.items()} == {
        "broken.py": "failed",
        "sound.py": "sound",
        "weak.py": "weak",
    }
    assert "ZeroDivisionError" in found["broken.py"]
    assert "input 0" in found["weak.py"]
    assert "fp64" in found["sound.py"]
    assert counts == "3 references: 1 sound, 1 weak, 1 failed"


def test_a_folder_is_linted_as_json_line_by_line(
    tasks: Path, environ: dict[str, str], system: dict[str, Any]
) -> None:
    result = lint(tasks, "--json", environ=environ | {"KECK_NATS_URL": system["nats_url"]})
    assert result.returncode == 1, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(Path(one["reference"]).name, one["status"]) for one in found] == [
        ("broken.py", "failed"),
        ("sound.py", "sound"),
        ("weak.py", "weak"),
    ]
    assert found[0]["verdict"]["lint"] is None
    lints = [msgspec.convert(one["verdict"], type=EvalDone).lint for one in found[1:]]
    assert [one is not None and one.weak for one in lints] == [False, True]


@pytest.mark.parametrize(("source", "code", "told"), [(REFERENCE, 0, "sound"), (WEAK, 1, "weak_task")])
def test_one_reference_is_linted_in_detail(
    environ: dict[str, str], system: dict[str, Any], source: str, code: int, told: str
) -> None:
    result = lint(Path("-"), "--url", system["nats_url"], environ=environ, stdin=source)
    assert result.returncode == code, result.stderr
    assert told in result.stdout
    assert {line.split()[0] for line in result.stdout.splitlines() if line} >= {
        "zeros",
        "constant",
        "another_set",
        "input",
        "bf16_operands",
    }


def test_a_private_system_lints_and_says_what_it_does(tasks: Path, environ: dict[str, str]) -> None:
    result = lint(tasks / "sound.py", "--device", "cpu", "--json", environ=environ)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "sound"
    assert "comparing outputs over secret inputs" in result.stderr


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU, which would serve the lint")
def test_a_lint_that_nobody_here_can_do_is_no_finding(tasks: Path, environ: dict[str, str]) -> None:
    result = lint(tasks / "sound.py", "--device", "cuda", environ=environ)
    assert result.returncode == 3, result.stdout
    assert result.stdout.startswith("infrastructure")
    assert "no CUDA executor here" in result.stdout


def test_the_doctor_sees_the_workers_of_a_running_system(
    environ: dict[str, str], system: dict[str, Any]
) -> None:
    command = [*KECK, "doctor"]
    environ = environ | {"KECK_URL": system["http_url"]}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environ)
    assert f"{system['http_url']} answers" in result.stdout
    assert "executor-cpu" in result.stdout


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU, which would serve the check")
def test_a_check_that_needs_cuda_is_prepared_and_then_reported_as_unserved(
    files: Path, environ: dict[str, str]
) -> None:
    result = check(files, "right.py", "--device", "cuda", environ=environ)
    assert result.returncode == 3, result.stdout
    assert "no CUDA executor here" in result.stdout
    assert "leave the sample out (no_executor)" in result.stdout
