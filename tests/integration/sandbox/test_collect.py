"""One file of a cell is read without trusting its name, whatever it has become."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keck_sandbox import collect
from keck_sandbox.collect import CellFileError, read_file


@pytest.fixture(params=["openat2", "stepwise"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test also as on a kernel, or in a container, that does not know openat2."""
    if request.param == "stepwise":
        monkeypatch.setattr(collect, "_OPENAT2", 5_000)
    return str(request.param)


@pytest.fixture
def cell(tmp_path: Path, way: str) -> Iterator[int]:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "cell").mkdir()
    fd = os.open(tmp_path / "cell", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "cell"


def test_a_regular_file_is_read_also_from_below(cell: int, where: Path) -> None:
    (where / "a" / "b").mkdir(parents=True)
    (where / "a" / "b" / "k.so").write_bytes(b"elf")
    (where / "empty").touch()
    assert read_file(cell, "a/b/k.so", limit_bytes=3) == b"elf"
    assert read_file(cell, "k.so", below="a/b", limit_bytes=3) == b"elf"
    assert read_file(cell, "empty", limit_bytes=0) == b""


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../secret", "a/../../secret", "./file", "a//file", "a/", "nul\0nul", "\ud800", "x" * 300],
)  # fmt: skip
def test_what_is_no_plain_relative_path_is_refused(cell: int, where: Path, name: str) -> None:
    (where / "a").mkdir()
    (where / "a" / "file").write_text("x")
    (where / "file").write_text("x")
    with pytest.raises(CellFileError):
        read_file(cell, name, limit_bytes=10)


def test_links_are_not_followed_wherever_they_are_in_the_path(cell: int, where: Path) -> None:
    (where / "own").write_text("own")
    (where / "link").symlink_to(where.parent / "secret")
    (where / "relative").symlink_to("own")
    (where / "dangling").symlink_to("nowhere")
    (where / "loop").symlink_to("loop")
    (where / "up").symlink_to("..")
    (where / "magic").symlink_to(f"/proc/self/fd/{cell}")
    (where / "magic-root").symlink_to("/proc/self/root")
    names = ["link", "relative", "dangling", "loop", "up/secret", "magic/own", "magic-root/etc/passwd"]
    for name in names:
        with pytest.raises(CellFileError):
            read_file(cell, name, limit_bytes=100)


def test_a_second_name_of_a_file_elsewhere_is_refused(cell: int, where: Path) -> None:
    os.link(where.parent / "secret", where / "hard")
    with pytest.raises(CellFileError, match="2 names"):
        read_file(cell, "hard", limit_bytes=100)


def test_what_is_no_regular_file_is_refused_at_once(cell: int, where: Path) -> None:
    os.mkfifo(where / "pipe")
    (where / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(where)  # the name of a socket has to be short
        try:
            sock.bind("socket")
        finally:
            os.chdir(here)
        started = time.monotonic()
        for name in ("pipe", "directory", "socket", "missing", "pipe/below"):
            with pytest.raises(CellFileError):
                read_file(cell, name, limit_bytes=100)
        assert time.monotonic() - started < 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes")
def test_a_device_is_refused(cell: int, where: Path) -> None:
    os.mknod(where / "zero", 0o20666, os.makedev(1, 5))
    with pytest.raises(CellFileError):
        read_file(cell, "zero", limit_bytes=100)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(cell: int, where: Path) -> None:
    (where / "giant").write_bytes(b"x" * 11)
    with pytest.raises(CellFileError, match="larger than 10 bytes"):
        read_file(cell, "giant", limit_bytes=10)
    with open(where / "sparse", "wb") as file:
        file.truncate(1 << 40)
    started = time.monotonic()
    with pytest.raises(CellFileError, match="larger"):
        read_file(cell, "sparse", limit_bytes=1 << 30)
    assert time.monotonic() - started < 1


def test_a_file_whose_size_is_a_lie_is_read_up_to_the_limit_only() -> None:
    # Files of /proc say that they have no bytes.
    fd = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.fstat(fd).st_size == 0
        with pytest.raises(CellFileError, match="larger than 10 bytes"):
            read_file(fd, "status", limit_bytes=10)
    finally:
        os.close(fd)


def test_another_mount_is_not_entered(way: str) -> None:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(CellFileError):
            read_file(fd, "proc/version", limit_bytes=1000)
    finally:
        os.close(fd)


def test_no_descriptor_is_left_open(cell: int, where: Path) -> None:
    (where / "file").write_text("x")
    (where / "giant").write_text("x" * 100)
    before = set(os.listdir("/proc/self/fd"))
    read_file(cell, "file", limit_bytes=10)
    for name in ("giant", "missing", "file/below", "..", "nul\0"):
        with pytest.raises(CellFileError):
            read_file(cell, name, limit_bytes=10)
    assert set(os.listdir("/proc/self/fd")) == before
