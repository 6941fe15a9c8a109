"""What a cell leaves is removed whole, and nothing besides it."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from keck_sandbox import collect
from keck_sandbox.collect import remove_tree


@pytest.fixture(params=["openat2", "stepwise"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "stepwise":
        monkeypatch.setattr(collect, "_OPENAT2", 5_000)


def dig(where: Path, depth: int) -> None:
    """Directories in one another: deeper than a path can be long, so made step by step."""
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A place in memory, for many thousands of directories: a disk takes milliseconds for each."""
    memory = Path("/dev/shm")
    where = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield where
    remove_tree(where)


def outside(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree.parent)) for path in tree.parent.rglob("*"))


def test_a_tree_of_everything_that_can_be_left_is_removed(tree: Path) -> None:
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "c" / "file").write_text("x")
    (tree / "link-to-directory").symlink_to(tree.parent / "outside")
    (tree / "link-to-file").symlink_to(tree.parent / "outside" / "kept")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "up").symlink_to("..")
    os.link(tree.parent / "outside" / "kept", tree / "a" / "hard")
    os.mkfifo(tree / "pipe")
    with open(tree / "sparse", "wb") as file:
        file.truncate(1 << 40)
    for name in (b"-rf", b"new\nline", b"\xff\xfe invalid", b" ", b"*", "\u202e".encode(), b"x" * 255):
        os.mkdir(os.path.join(os.fsencode(tree), name))
        os.close(os.open(os.path.join(os.fsencode(tree), name, name), os.O_CREAT | os.O_WRONLY))
    assert remove_tree(tree) == ()
    assert outside(tree) == ["outside", "outside/kept"]
    assert (tree.parent / "outside" / "kept").read_text() == "kept"
    assert (tree.parent / "outside" / "kept").stat().st_nlink == 1


def test_six_thousand_directories_in_one_another_need_neither_stack_nor_descriptors(quick: Path) -> None:
    dig(quick, 6_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = max(map(int, os.listdir("/proc/self/fd"))) + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert remove_tree(quick) == ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not quick.exists()


def test_many_files_and_directories_in_one_directory_are_removed(quick: Path) -> None:
    for number in range(10_000):  # more than are held at once
        (quick / f"file-{number}").touch()
        (quick / f"directory-{number}").mkdir()
    assert remove_tree(quick) == ()
    assert not quick.exists()


def test_directories_that_nobody_may_enter_are_removed(tree: Path) -> None:
    """By their owner, who as root would not notice: as an ordinary user where the test is root."""
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(collect.__file__).parents[1])!r})
from keck_sandbox import collect
collect._OPENAT2 = {collect._OPENAT2}
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(20000, 20000, 20000); os.setresuid(20000, 20000, 20000)
tree = sys.argv[1]
os.makedirs(tree + "/closed/within/further")
for name in ("closed/within/further", "closed/within/f", "closed/f", "read-only/f"):
    os.makedirs(os.path.dirname(f"{{tree}}/{{name}}"), exist_ok=True)
    if not os.path.isdir(f"{{tree}}/{{name}}"): open(f"{{tree}}/{{name}}", "w").close()
os.chmod(tree + "/closed/within/further", 0)
os.chmod(tree + "/closed/within", 0)
os.chmod(tree + "/closed", 0)
os.chmod(tree + "/read-only", 0o500)
print(collect.remove_tree(tree), os.path.lexists(tree))
"""
    if os.getuid() == 0:
        for path in (tree.parent, *tree.parent.parents[:2]):
            path.chmod(0o711)
        os.chown(tree.parent, 20000, 20000)
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tree.parent / "own")], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert ran.stdout == "() False\n", ran.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")
def test_a_mount_is_neither_entered_nor_lost_and_told_of(tree: Path) -> None:
    """A bind mount of the same device at that, which only the kernel can tell from a directory."""
    (tree / "a" / "mounted").mkdir(parents=True)
    (tree / "a" / "other").mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    where = os.fsencode(tree / "a" / "mounted")
    assert libc.mount(os.fsencode(tree.parent / "outside"), where, None, ctypes.c_ulong(4096), None) == 0
    try:
        if collect._OPENAT2 == 437:
            assert remove_tree(tree) == (str(tree / "a" / "mounted"),)
            assert outside(tree) == [
                "outside",
                "outside/kept",
                "tree",
                "tree/a",
                "tree/a/mounted",
                "tree/a/mounted/kept",
            ]
    finally:
        assert libc.umount2(where, 2) == 0
    assert remove_tree(tree) == ()
    assert outside(tree) == ["outside", "outside/kept"]


@pytest.mark.skipif(os.getuid() != 0, reason="root's files are what others cannot remove")
def test_what_cannot_be_removed_is_told_and_the_rest_removed(tree: Path) -> None:
    (tree / "theirs" / "stays").mkdir(parents=True)
    (tree / "theirs" / "stays" / "file").touch()
    (tree / "own").mkdir()
    (tree / "own" / "file").touch()
    for path in (tree, tree / "own", tree / "own" / "file"):
        os.chown(path, 20000, 20000)
    for path in (tree.parent, *tree.parent.parents[:2]):
        path.chmod(0o711)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(20000, 20000, 20000)
        os.setresuid(20000, 20000, 20000)
        left = remove_tree(tree)
        os._exit(0 if left[:1] == (str(tree / "theirs" / "stays" / "file"),) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert sorted(os.listdir(tree)) == ["theirs"]


def test_a_link_or_a_file_is_removed_itself_and_nothing_is_fine(tree: Path) -> None:
    link, file = tree.parent / "link", tree.parent / "file"
    link.symlink_to(tree.parent / "outside")
    file.touch()
    assert remove_tree(link) == remove_tree(file) == remove_tree(tree.parent / "missing") == ()
    assert remove_tree(tree.parent / "missing" / "further") == ()
    assert outside(tree) == ["outside", "outside/kept", "tree"]


def test_no_descriptor_is_left_open(tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    before = set(os.listdir("/proc/self/fd"))
    remove_tree(tree)
    assert set(os.listdir("/proc/self/fd")) == before
