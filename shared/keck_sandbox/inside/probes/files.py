"""Reading and writing what is not the cell's: files, their attributes, devices, the kernel's own switches."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import time
from collections.abc import Callable

from keck_sandbox.inside.probes.kernel import checked, libc
from keck_sandbox.inside.probes.registry import Facts, Unsupported, probe, require, victim_proc

__all__: list[str] = []

_CLOCK_S = 0.03
"""More than a tick of the clock that file systems use."""


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(4096)


def _open_for_writing(path: str) -> None:
    """Nothing is written: that it could be is enough."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def _any(paths: list[str], attack: Callable[[str], object], nothing: str) -> str:
    """Try each; which ones gave way."""
    if not paths:
        raise Unsupported(nothing)
    open_, last = [], OSError()
    for path in paths:
        try:
            attack(path)
        except OSError as error:
            last = error
        else:
            open_.append(path)
    if not open_:
        raise last
    return " ".join(open_)


# --- reading


@probe("fs_read", 1)
def read_marker(facts: Facts) -> None:
    """A file that anybody may read."""
    _read(facts["marker"])


@probe("fs_read", 2)
def read_private(facts: Facts) -> None:
    """A file that only the service may read."""
    _read(facts["private"])


@probe("fs_read", 3)
def read_shadow(_: Facts) -> None:
    """The system's passwords."""
    _read("/etc/shadow")


@probe("fs_read", 3)
def list_homes(facts: Facts) -> str:
    """The directories of users, of the service, and of a pod's credentials."""
    homes = facts[
        "homes"
    ]  # with a file that is in each: on the way to what may be seen there are directories

    def listed(path: str) -> None:
        require(homes[path] in os.listdir(path), "others of that name")

    return _any(list(homes), listed, "there are none")


@probe("fs_read", 1)
def list_outside(facts: Facts) -> None:
    """Names in a directory that anybody may list."""
    os.listdir(facts["directory"])


@probe("fs_read", 4)
def read_through_link(facts: Facts) -> None:
    """The file by a symbolic link of the cell's own."""
    os.symlink(facts["marker"], "link")
    _read("link")


@probe("fs_read", 5)
def hard_link_marker(facts: Facts) -> None:
    """A second name for it in the cell."""
    os.link(facts["marker"], "hard")
    os.unlink("hard")


@probe("fs_read", 5)
def rename_marker(facts: Facts) -> None:
    """Move a file that anybody may write into the cell, and back."""
    os.rename(facts["writable"], "moved")
    os.rename("moved", facts["writable"])


@probe("fs_read", 6)
def read_through_victim(facts: Facts) -> str:
    """By the root and working directories of another process."""
    where = victim_proc(facts)
    return _any([f"{where}/root", f"{where}/cwd"], os.listdir, "")


@probe("fs_read", 6)
def read_through_parent(_: Facts) -> str:
    """By those of every process above this one, as far as they are other than ours."""
    pid, open_ = os.getppid(), []
    ours = (os.stat("/").st_dev, os.stat("/").st_ino)
    while pid > 0:
        try:
            found = os.stat(f"/proc/{pid}/root")
            if (found.st_dev, found.st_ino) != ours:
                open_.append(str(pid))
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            break
    require(open_, "their root is ours, or closed")
    return " ".join(open_)


# --- whether something exists


@probe("stat", 11)
def stat_outside(facts: Facts) -> None:
    """Whether a file exists, how large it is, when it was written."""
    os.stat(facts["marker"])


@probe("stat", 11)
def enter_outside(facts: Facts) -> None:
    """Make a directory outside the working directory."""
    os.chdir(facts["directory"])


@probe("stat", 11)
def watch_outside(facts: Facts) -> None:
    """Be told when a file is used."""
    fd = checked(libc.inotify_init())
    checked(libc.inotify_add_watch(fd, os.fsencode(facts["marker"]), 0xFFF))


@probe("covert", 12)
def lock_shared_file(_: Facts) -> None:
    """Lock a file of the system's: whoever else may read it can see that."""
    fd = os.open(os.__file__, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(fd)


# --- writing


@probe("fs_write", 7)
def write_library(_: Facts) -> None:
    """A module that every interpreter on this machine imports."""
    _open_for_writing(os.__file__)


@probe("fs_write", 7, 55)
def plant_module(facts: Facts) -> str:
    """A module or a cache beside those of the interpreter, of Keck, or of the installed packages."""
    places = [
        os.path.dirname(os.__file__),
        f"{os.path.dirname(os.__file__)}/__pycache__",
        *facts["import_paths"],
    ]
    return _any([f"{place}/keck_probe_{facts['token']}.py" for place in places], _create, "")


@probe("fs_write", 7)
def write_system(facts: Facts) -> str:
    """Files in the system's own directories."""
    places = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/var/tmp", "/run"]
    return _any([f"{place}/keck-probe-{facts['token']}" for place in places], _create, "")


@probe("fs_write", 8)
def append_to_writable(facts: Facts) -> None:
    """A file that anybody may write."""
    _open_for_writing(facts["writable"])


@probe("fs_write", 8)
def create_beside_marker(facts: Facts) -> None:
    """A file in a directory of the service's that anybody may write."""
    _create(f"{facts['directory']}/new")


@probe("fs_write", 8, outside=True)
def leave_in_tmp(facts: Facts) -> None:
    """A file where everybody's temporary files are."""
    os.close(os.open(f"{facts['tmp']}/keck-left-{facts['token']}", os.O_WRONLY | os.O_CREAT, 0o600))


@probe("fs_write", 8)
def unlink_outside(facts: Facts) -> None:
    """Remove a file that is there to be removed."""
    os.unlink(facts["removable"])


def _changes(path: str, change: Callable[[os.stat_result], None]) -> None:
    """Change a file to what it is: done where its time of change has become another, for the answer may be a lie."""
    before = os.stat(path)
    limit = time.monotonic() + _CLOCK_S
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:
        require(time.monotonic() < limit)
        change(before)


@probe("fs_write", 9)
def change_mode(facts: Facts) -> None:
    """Of a file of the service's."""
    path = facts["marker"]
    _changes(path, lambda before: os.chmod(path, stat.S_IMODE(before.st_mode)))


@probe("fs_write", 9)
def change_times(facts: Facts) -> None:
    """Of a file of the service's."""
    path = facts["marker"]
    _changes(path, lambda before: os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns)))


@probe("fs_write", 9)
def change_owner(facts: Facts) -> None:
    """Of a file of the service's."""
    path = facts["marker"]
    _changes(path, lambda before: os.chown(path, before.st_uid, before.st_gid))


@probe("fs_write", 9)
def set_attribute(facts: Facts) -> None:
    """An extended attribute, and remove it again."""
    os.setxattr(facts["writable"], "user.keck", b"x")
    os.removexattr(facts["writable"], "user.keck")


@probe("fs_write", 10)
def truncate_writable(facts: Facts) -> None:
    """A file that anybody may write, to the length it has, by its name."""
    os.truncate(facts["writable"], facts["writable_bytes"])


@probe("fs_write", 54)
def write_own_input(facts: Facts) -> None:
    """The directory that the service fills for the cell."""
    _create(f"{os.path.dirname(facts['work'])}/new-{facts['token']}")


@probe("fs_write", 54)
def rename_own_directory(facts: Facts) -> None:
    """Put another in its place, and back."""
    for path in (facts["work"], os.path.dirname(facts["work"])):
        aside = f"{path}-{facts['token']}"
        os.rename(path, aside)
        os.rename(aside, path)


# --- the kernel's switches, and devices


@probe("devices", 13)
def write_core_pattern(_: Facts) -> None:
    """What the host starts when a process crashes."""
    _open_for_writing("/proc/sys/kernel/core_pattern")


@probe("devices", 13)
def write_switches(facts: Facts) -> str:
    """Files of /proc, /sys and the cgroups that change the machine."""
    return _any(facts["switches"], _open_for_writing, "there are none")


@probe("devices", 14)
def open_devices(facts: Facts) -> str:
    """Memory, disks, terminals, virtual machines, and other accelerators."""
    return _any(
        facts["devices"], lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)), "there are none"
    )


@probe("devices", 15)
def make_device(_: Facts) -> None:
    """A node for a device that does no harm."""
    os.mknod("full", 0o20600, os.makedev(1, 7))
    os.unlink("full")


@probe("devices", 15)
def open_made_device(_: Facts) -> None:
    """And use it."""
    os.mknod("full", 0o20600, os.makedev(1, 7))
    try:
        _read("full")
    finally:
        os.unlink("full")


@probe("devices", 19)
def write_in_dev(facts: Facts) -> None:
    """A plain file in /dev."""
    _create(f"/dev/keck-probe-{facts['token']}")


@probe("devices", 3)
def open_by_handle(_: Facts) -> None:
    """A file by the number that the file system knows it by, past every directory."""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount_id = ctypes.c_int()
    checked(libc.name_to_handle_at(-100, b".", handle, ctypes.byref(mount_id), 0))
    checked(libc.open_by_handle_at(-100, handle, os.O_RDONLY))


# --- leaving something for the next cell


@probe("ipc", 20, outside=True)
def leave_in_shm(facts: Facts) -> None:
    """A file in /dev/shm."""
    os.close(os.open(f"/dev/shm/keck-left-{facts['token']}", os.O_WRONLY | os.O_CREAT, 0o600))


@probe("ipc", 20, 55)
def find_what_was_left(facts: Facts) -> str:
    """Files of an earlier cell with the same facts."""
    name = f"keck-left-{facts['earlier']}"
    places = ("/dev/shm", facts["tmp"], facts["work"], os.environ.get("HOME", "/"))
    return _any([f"{place}/{name}" for place in places], _read, "")
