"""What a cell leaves behind is read without trusting names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keck_compiler.cell_files import CellFileError, read_cell_file


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.so").write_bytes(b"elf")
    assert read_cell_file(tmp_path, "a.so", below="work", limit_bytes=3) == b"elf"


def test_links_pipes_directories_and_giants_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    cell = tmp_path / "cell"
    cell.mkdir()
    (cell / "link").symlink_to(secret)
    os.mkfifo(cell / "pipe")
    (cell / "directory").mkdir()
    (cell / "giant").write_bytes(b"x" * 11)
    (cell / "work").symlink_to(tmp_path)
    for name in ("link", "pipe", "directory", "giant", "missing"):
        with pytest.raises(CellFileError):
            read_cell_file(cell, name, limit_bytes=10)
    with pytest.raises(CellFileError):
        read_cell_file(cell, "secret", below="work", limit_bytes=10)
