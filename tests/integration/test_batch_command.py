"""`keck batch` as a person runs it, over a real gateway and bus; the judge is played."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keck.played import PlayedSystem
from keck.testing import wait_until

KECK = [sys.executable, "-m", "keck.cli"]
REFERENCE = "class Model: ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two levels of three problems, two samples each; a third of them crashes."""
    for level in (1, 2):
        for problem in (1, 2, 3):
            place = tmp_path / "problems" / f"level{level}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{problem}_Thing{problem}.py").write_text(f"{REFERENCE}# {level} {problem}\n")
            for sample in (0, 1):
                write(
                    tmp_path,
                    f"level_{level}_problem_{problem}_sample_{sample}",
                    "crashed" if problem == 3 else "passed",
                )
    return tmp_path


def write(folder: Path, name: str, verdict: str) -> None:
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    (runs / f"{name}_kernel.py").write_text(
        f"# verdict: {verdict}\n# {name} {folder.name}\nclass ModelNew: ...\n"
    )


def command(folder: Path, *more: str) -> list[str]:
    return [*KECK, "batch", str(folder / "problems"), str(folder / "runs"), *more]


def environ(url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    return clean | {"KECK_URL": url}


def run(folder: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more), env=environ(url), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(params=["http", "nats"])
def url(request: pytest.FixtureRequest, played: PlayedSystem) -> str:
    return str(getattr(played, f"{request.param}_url"))


def test_a_set_is_judged_counted_and_reported(folder: Path, url: str, played: PlayedSystem) -> None:
    done = run(folder, url, "--report", str(folder / "report" / "mine"), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    overall = said["summaries"][0]
    assert (overall["generations"], overall["judged"], overall["correct"]) == (12, 12, 8)
    assert overall["fast_p"]["1"] == pytest.approx(8 / 12)
    assert [one["title"] for one in said["summaries"]] == [
        "all",
        "level 1",
        "level 2",
        "best of each problem",
    ]
    lines = [json.loads(line) for line in (folder / "runs" / "keck-results.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {
        f"level_{level}_problem_{problem}_sample_{sample}"
        for level in (1, 2) for problem in (1, 2, 3) for sample in (0, 1)
    }  # fmt: skip
    assert (folder / "report" / "mine.html").read_text().startswith("<!doctype html>")
    assert "12 of 12" in done.stderr
    assert {request.run for request in played.requests} == {"batch"}


def test_people_get_a_table(folder: Path, url: str) -> None:
    done = run(folder, url)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[0].split() == [
        "judged",
        "compiled",
        "correct",
        "fast_0.5",
        "fast_0.8",
        "fast_1",
        "fast_1.5",
        "fast_2",
        "speedup",
    ]
    assert table[1].split()[:4] == ["all", "12/12", "12", "8"]
    assert table[-1] == "8 passed, 4 crashed"


def test_the_same_command_judges_only_what_is_new_or_was_not_judged(
    folder: Path, url: str, played: PlayedSystem
) -> None:
    write(folder, "level_1_problem_1_sample_0", "infra_error")
    first = run(folder, url, "--retries", "0")
    assert first.returncode == 3
    assert len(played.requests) == 12
    write(folder, "level_2_problem_2_sample_7", "passed")
    second = run(folder, url, "--retries", "0")
    assert "13 generations, 11 of them judged already" in second.stderr
    assert len(played.requests) == 14
    write(folder, "level_1_problem_1_sample_0", "passed")
    third = run(folder, url)
    assert third.returncode == 0
    assert len(played.requests) == 15
    assert run(folder, url).returncode == 0
    assert len(played.requests) == 15


def test_a_run_that_was_stopped_goes_on_and_finds_what_was_decided_meanwhile(
    folder: Path, url: str, played: PlayedSystem
) -> None:
    held: list[Any] = []
    answer = played.answer

    def hold_problem_two(request: Any) -> Any:
        if "_problem_2_" in request.candidate:
            held.append(request)
            return None
        return answer(request)

    played.answer = hold_problem_two
    results = folder / "runs" / "keck-results.jsonl"
    process = subprocess.Popen(command(folder), env=environ(url), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: results.exists() and results.read_text().count("\n") == 8 and len(held) == 4, 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "8 of 12 are in" in said
    assert "Traceback" not in said
    for request in held:
        played.decide(answer(request))
    played.answer = lambda _: None  # whatever is asked now is not answered: the verdicts are there already
    done = run(folder, url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summaries"][0]["correct"] == 8


def test_a_manifest_does_as_well(tmp_path: Path, url: str) -> None:
    lines = [
        {
            "candidate": f"# verdict: {verdict}\n# {tmp_path.name}\nclass ModelNew: ...\n",
            "reference": REFERENCE,
            "name": verdict,
        }
        for verdict in ("passed", "wrong_result")
    ]
    manifest = tmp_path / "set.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    done = subprocess.run(
        [*KECK, "batch", str(manifest), "--json"], env=environ(url), capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summaries"][0]["verdicts"] == {"passed": 1, "wrong_result": 1}


def test_a_gateway_that_is_not_there_is_said_once(folder: Path) -> None:
    done = run(folder, "http://127.0.0.1:9")
    assert done.returncode == 3
    assert done.stderr.count("no gateway answers") == 1
    assert not (folder / "runs" / "keck-results.jsonl").read_text()


def test_a_folder_that_is_none_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    done = run(tmp_path, "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no folder" in done.stderr
