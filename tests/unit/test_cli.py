"""The command line: what it prints where, and how it exits."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog

from keck.cli import main
from keck.cli._report import report_of
from keck.messages import Flag, verdict_of
from keck.testing import sample_eval_done, sample_request
from keck.verdict import Verdict


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, and no logging left behind that writes to this test's captured stderr."""
    for name in [name for name in os.environ if name.startswith("KECK_")]:
        monkeypatch.delenv(name)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `keck ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["keck", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "nowhere.py", "{file}"], "there is no file nowhere.py (the candidate)"),
        (["check", "{file}", "nowhere.py"], "there is no file nowhere.py (the reference)"),
        (["check", "{directory}", "{file}"], "is a directory; the candidate must be a Python file"),
        (["check", "{binary}", "{file}"], "is not UTF-8 text"),
        (["check", "-", "-"], "only one of candidate and reference can be read from stdin"),
        (["check", "{file}", "{file}", "--timed-calls", "-1"], "options: Expected `int` >= 0"),
        (["check", "{file}", "{file}", "--url", "ftp://x"], "unknown scheme 'ftp'"),
        (
            ["check", "{file}", "{file}", "--kind", "haiku"],
            "unknown kind 'haiku'; known are kernel, lint, torch",
        ),
        (["lint", "nowhere.py"], "there is no file nowhere.py (the reference)"),
        (["lint", "{directory}"], "mentions get_inputs"),
        (["lint", "{binary}"], "is not UTF-8 text"),
        (["lint", "{file}", "--atol", "-1"], "options: Expected `float` >= 0"),
        (["lint", "{file}", "--url", "ftp://x"], "unknown scheme 'ftp'"),
        (["up", "--devices", "tpu"], "'tpu' is none of auto, cpu, cuda:N"),
        (["up", "--devices", "cpu,cpu"], "name each device once"),
    ],
)
def test_a_wrong_call_is_said_in_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, binary = tmp_path / "source.py", tmp_path / "binary.py"
    source.write_text("class Model: ...\n")
    binary.write_bytes(b"\xff\xfe\x00")
    names = {"{file}": str(source), "{directory}": str(tmp_path), "{binary}": str(binary)}
    code = run(monkeypatch, *(names.get(argument, argument) for argument in arguments))
    output = capsys.readouterr()
    assert sentence in output.err
    assert output.out == ""
    assert "Traceback" not in output.err
    assert code == 2


def test_a_bus_that_is_not_there_is_not_the_candidates_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.py"
    source.write_text("class Model: ...\n")
    assert run(monkeypatch, "check", str(source), str(source), "--url", "nats://127.0.0.1:9") == 3
    assert "cannot connect to NATS at 127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["check"], ["check", "a", "b", "--device", "tpu"], ["nothing"]])
def test_what_the_parser_refuses_is_a_usage_error(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, *arguments) == 2


def test_a_setting_that_cannot_be_read_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KECK_HTTP_PORT", "eighty")
    assert run(monkeypatch, "config") == 2
    assert "KECK_HTTP_PORT='eighty': must be a whole number" in capsys.readouterr().err


def test_config_masks_secrets_and_names_each_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KECK_TOKEN", "hunter2")
    monkeypatch.setenv("KECK_HTTP_PORT", "8123")
    assert run(monkeypatch, "config", "--json") == 0
    output = capsys.readouterr()
    settings = {setting["variable"]: setting for setting in json.loads(output.out)["settings"]}
    assert "hunter2" not in output.out + output.err
    assert settings["KECK_TOKEN"]["value"] == "********"
    assert (settings["KECK_HTTP_PORT"]["value"], settings["KECK_HTTP_PORT"]["source"]) == (
        8123,
        "environment",
    )
    assert settings["COMPILER_CPUS"]["source"] == "default"


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 2), (["--strict", "--json"], 2)])
def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(
    arguments: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KECK_NAT_URL", "nats://elsewhere:4222")
    assert run(monkeypatch, "config", *arguments) == code
    assert "KECK_NAT_URL is no setting of Keck and has no effect; did you mean KECK_NATS_URL?" in (
        capsys.readouterr().err
    )


def test_strict_is_content_with_known_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "config", "--strict") == 0


def test_the_doctor_finds_what_this_environment_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_was_imported = "torch" in sys.modules  # by another test
    assert run(monkeypatch, "doctor", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding["ok"] for finding in answer["findings"]}
    assert answer["can_check_on_cpu"]
    assert found["torch"]
    assert found["nats-server"]
    assert ("torch" in sys.modules) == torch_was_imported


def test_the_doctor_says_what_is_missing_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert run(monkeypatch, "doctor") == 3
    output = capsys.readouterr()
    assert "not found -> apt-get install g++" in output.out
    assert "a check cannot run on this machine" in output.err


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (
            '{"fast": true, "toolchain": {"torch": "TORCH", "nvcc": "13.0.88"}}',
            "fast: torch TORCH, nvcc 13.0.88",
        ),
        (
            '{"fast": false, "reason": "self-test: no", "toolchain": {"torch": "TORCH"}}',
            "stock: self-test: no",
        ),
        ('{"fast": true, "toolchain": {"torch": "0.1"}}', "not tried yet"),
        ("damaged", "not tried yet"),
    ],
)
def test_the_doctor_says_how_extensions_are_built(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    verdict: str,
    says: str,
) -> None:
    torch = importlib.metadata.version("torch").partition("+")[0]
    (tmp_path / "recipes/abc").mkdir(parents=True)
    (tmp_path / "recipes/abc/verdict.json").write_text(verdict.replace("TORCH", f"{torch}+cu130"))
    monkeypatch.setenv("KECK_STATE_DIR", str(tmp_path))
    run(monkeypatch, "doctor", "--json")
    (found,) = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["name"] == "recipe"]
    assert says.replace("TORCH", f"{torch}+cu130") in found["what"]
    assert found["ok"] == says.startswith("fast")


def test_a_port_that_is_taken_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = run(monkeypatch, "up", "--http-port", port, "--directory", str(tmp_path))
    assert code == 2
    assert f"--http-port {port}: Address already in use on 127.0.0.1" in capsys.readouterr().err


def test_no_color_is_honoured_even_when_colour_is_forced() -> None:
    environ = os.environ | {"FORCE_COLOR": "1", "NO_COLOR": "1"}
    plain = subprocess.run(
        [sys.executable, "-m", "keck.cli", "config"], capture_output=True, text=True, check=True, env=environ
    )
    assert "\x1b[3" not in plain.stdout


def test_a_report_names_numbers_flags_and_durations() -> None:
    flags = [Flag(code="delegation.library", severity="warn", evidence="calls cuBLAS")]
    report = report_of(sample_eval_done(flags=flags)).plain
    for part in (
        "passed",
        "0 of 4096 elements outside atol 0.0001 + rtol 0.0001",
        "0.0084 ms median, 95 % in [0.0083, 0.0085], 100 calls",
        "1.09, at least 1.06 (cpu, burst, noise 1.0%)",
        "warn delegation.library: calls cuBLAS",
        "compile 1.50 s",
    ):
        assert part in report


def test_a_failure_ends_with_the_tail_of_its_log_and_no_terminal_codes() -> None:
    log = "\n".join(f"line {number}" for number in range(100)) + "\n\x1b[2J\x07error: expected ';'\r\n"
    event = verdict_of(
        sample_request(), Verdict.COMPILE_ERROR, stage="compile", message="it does not build\x1b[31m", log=log
    )
    report = report_of(event).plain
    assert report.endswith("error: expected ';'")
    assert "line 0\n" not in report
    assert "\x1b" not in report
    assert "\x07" not in report


def test_a_failure_of_ours_says_that_the_sample_must_be_left_out() -> None:
    event = msgspec.structs.replace(
        verdict_of(sample_request(), Verdict.INFRA_ERROR, stage="load", message="the GPU is gone"),
        failure_kind="gpu_lost",
    )
    assert "not the candidate's doing: leave the sample out (gpu_lost)" in report_of(event).plain
