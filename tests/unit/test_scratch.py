"""Temporary directories and those who died before they could remove theirs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keck.scratch import scratch_directory


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_directory_is_there_until_its_end() -> None:
    with scratch_directory("test") as directory:
        (directory / "file").write_text("x")
        assert directory.stat().st_mode & 0o077 == 0
    assert not directory.exists()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f"keck-test-{dead_pid()}-abc123"
    left.mkdir()
    (left / "file").write_text("x")
    with scratch_directory("test"):
        assert not left.exists()


def test_directories_of_the_living_and_of_others_stay(tmp_path: Path) -> None:
    with scratch_directory("test") as mine:
        other = tmp_path / f"keck-else-{dead_pid()}-abc123"
        other.mkdir()
        with scratch_directory("test"):
            assert mine.exists()
            assert other.exists()
