"""What a cell leaves behind is read without trusting names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keck_compiler.cell_files import CellFileError, read_cell_file


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[int]:
    """A descriptor of `tmp_path / "cell"`."""
    (tmp_path / "cell").mkdir()
    descriptor = os.open(tmp_path / "cell", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_regular_file_is_read(tmp_path: Path, cell: int) -> None:
    (tmp_path / "cell" / "work").mkdir()
    (tmp_path / "cell" / "work" / "a.so").write_bytes(b"elf")
    assert read_cell_file(cell, "a.so", below="work", limit_bytes=3) == b"elf"


def test_links_pipes_directories_and_giants_are_refused(tmp_path: Path, cell: int) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    place = tmp_path / "cell"
    (place / "link").symlink_to(secret)
    os.mkfifo(place / "pipe")
    (place / "directory").mkdir()
    (place / "giant").write_bytes(b"x" * 11)
    (place / "sparse").touch()
    os.truncate(place / "sparse", 1 << 40)
    os.link(secret, place / "second_name")
    (place / "work").symlink_to(tmp_path)
    for name in ("link", "pipe", "directory", "giant", "sparse", "second_name", "missing"):
        with pytest.raises(CellFileError):
            read_cell_file(cell, name, limit_bytes=10)
    with pytest.raises(CellFileError):
        read_cell_file(cell, "secret", below="work", limit_bytes=10)
