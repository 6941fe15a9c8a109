"""Becoming a cell: the order of the steps is the point (design paper on the sandbox, 3.2).

Three processes take part. The *launcher* makes the namespaces (:func:`open_namespaces`) and forks; it ends at once, so
that the service, a subreaper, becomes the parent of what it forked. That is the *init* of the pid namespace where
there is one (else there is none): it waits for the cell and tells how that ended, and when it has ended itself, the
kernel has ended everything in the namespace. The *cell* tells the service its pid by the credentials of a message,
hands over its work directory, waits until the service has become the parent, and gives up one thing after the other,
the filter of system calls last.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
from typing import NoReturn

from keck_sandbox.inside import landlock, linux, seccomp
from keck_sandbox.inside.spec import Spec

__all__ = ["BOUND", "ENDED", "EXIT_FAILED", "GO", "HELLO", "INIT", "RUNS", "enter", "fail", "open_namespaces"]

INIT, HELLO, GO, BOUND, RUNS, ENDED = b"init", b"hello", b"go", b"bound", b"runs", b"ended "
"""What is said on the status socket, in this order; ``ended`` with the status that ``waitpid`` gave."""
EXIT_FAILED = 125
_ROOT = "root"
"""Below the cell's directory: where its root is put together; an empty place afterwards."""
_OPEN_DEVICES = ("null", "zero", "full", "random", "urandom")
_QUIET = linux.MS_NOSUID | linux.MS_NODEV
# For every process that asks who or what it is, and nothing that tells more than that.
_PASSWD = "keck:x:{uid}:{gid}:keck:/:/usr/sbin/nologin\n"
_GROUP = "keck:x:{gid}:\n"
_PROC_READ = (
    "cpuinfo", "meminfo", "stat", "version", "filesystems", "devices", "modules", "driver", "uptime", "loadavg",
    "sys/vm", "sys/kernel/osrelease", "sys/kernel/ngroups_max", "sys/kernel/cap_last_cap",
)  # fmt: skip


def open_namespaces(spec: Spec) -> None:
    """Make the namespaces that children of this process will be in; needs a single thread.

    Raises:
        OSError: this host or user may not.
    """
    if not spec.namespaces:
        return
    uid, gid = os.getuid(), os.getgid()
    linux.set_dumpable(True)  # or the files below are root's; a zygote is not
    linux.unshare(spec.namespaces)
    if spec.namespaces & linux.CLONE_NEWUSER:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def enter(spec: Spec, status: socket.socket) -> int | None:
    """Turn this process, freshly forked and single-threaded, into the cell.

    `status` is closed by the start of a program, which tells the service that it runs.

    Returns:
        a descriptor that the start of a program closes too; None where there is none.

    Raises:
        OSError: a step failed; the process must end, it is neither out nor in.
    """
    if spec.namespaces & linux.CLONE_NEWNS:
        _build_root(spec)
    adopted = _fork_from_init(status) if spec.fresh_proc else None
    os.setsid()
    if not spec.namespaces & linux.CLONE_NEWNS and spec.uid is not None:
        os.chown(spec.files.work, spec.uid, spec.uid)
    work = os.open(spec.files.work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    socket.send_fds(status, [HELLO], [work])
    os.close(work)
    if status.recv(16) != GO:
        raise OSError("the service did not take the cell over")
    if adopted is not None:
        os.write(adopted, b"x")
    os.chdir(spec.files.work)
    for name, value in spec.limits.items():
        _limit(getattr(resource, name), value)
    _give_up_identity(spec)
    # Not before: a change of user undoes it. And only now is the service the parent.
    linux.die_with_parent()
    os.umask(0o077)
    for place in spec.files.places:
        os.makedirs(place, exist_ok=True)
    if spec.confined:
        linux.adopt_orphans()
        linux.no_new_privileges()
    if spec.landlock:
        _landlock(spec)
    if spec.seccomp:
        if spec.lock_signals:
            seccomp.install(seccomp.signals_to_self_only(os.getpid()))
        seccomp.install(bytes.fromhex(spec.seccomp))
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # Fails where the service died while we were not yet bound to it: nobody would ever end us. The program's start
    # closes the socket, which is what the service waits for.
    status.send(BOUND)
    return adopted


def fail(status: socket.socket, error: OSError) -> NoReturn:
    """Tell the service which step failed, and end."""
    with contextlib.suppress(OSError):
        status.send(f"error: {error}".encode()[:4096])
    os._exit(EXIT_FAILED)


def _fork_from_init(status: socket.socket) -> int:
    """Fork the cell off this process, the first of its pid namespace; returns in the cell.

    What a cell's first process may not do without: signals that end it by default do not reach an init, so that
    ``abort()`` in it would end otherwise than it does elsewhere.

    Returns:
        a descriptor: a byte written to it says that the service is the init's parent, its end that the program runs.
    """
    os.setsid()  # out of the zygote's group, with which it would be killed
    status.send(INIT)
    read, write = os.pipe2(os.O_CLOEXEC)
    cell = os.fork()
    if cell == 0:
        os.close(read)
        return write
    # Where it has the cell's own user, it could be made to lie about how the cell ended.
    linux.set_dumpable(False)
    linux.close_all_but({status.fileno(), read})
    if os.read(read, 1):
        linux.die_with_parent()
        with contextlib.suppress(OSError):  # the service is gone: so are we, at the first thing we say
            os.read(read, 1)
            status.send(RUNS)
            status.send(ENDED + str(_wait_for(cell)).encode())
    os._exit(0)


def _wait_for(cell: int) -> int:
    """Reap whatever ends, until the cell does; its status."""
    while True:
        pid, ended = os.wait()
        if pid == cell:
            return ended


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bounded, bounded))


def _give_up_identity(spec: Spec) -> None:
    if spec.confined:
        linux.drop_bounding_set()
    if spec.uid is not None:
        os.setgroups([])
        os.setresgid(spec.uid, spec.uid, spec.uid)
        os.setresuid(spec.uid, spec.uid, spec.uid)
    if spec.confined:
        linux.drop_capabilities()
    linux.set_dumpable(spec.dumpable)


# --- tiers with a mount namespace


def _build_root(spec: Spec) -> None:
    """A root of links to what may be seen; nothing else of the host exists afterwards."""
    files = spec.files
    os.umask(0o022)  # the user who will look at it is another
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    root = f"{files.directory}/{_ROOT}"
    own = linux.clone_tree(files.directory)  # before the root lies in it
    proc = None if spec.fresh_proc else linux.clone_tree("/proc")
    linux.mount("cell", root, "tmpfs", _QUIET, "size=1m,nr_inodes=1000,mode=755")
    for path in files.read:
        _show(root, path, linux.MS_RDONLY | _QUIET)
    for place in ("proc", "dev/shm", "etc", files.directory.lstrip("/")):
        os.makedirs(f"{root}/{place}", exist_ok=True)
    _write_accounts(root, spec)
    for path in (*(f"/dev/{name}" for name in _OPEN_DEVICES), *files.devices):
        _show(root, path, linux.MS_NOSUID)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
    ):
        os.symlink(target, f"{root}/dev/{name}")
    linux.set_attributes(own, linux.MS_RDONLY | _QUIET)
    linux.move_tree(own, f"{root}{files.directory}")
    owner = f"uid={spec.uid},gid={spec.uid}," if spec.uid is not None else ""
    linux.mount(
        "work", f"{root}{files.work}", "tmpfs", _QUIET,
        f"{owner}mode=700,size={files.work_bytes},nr_inodes={files.work_inodes}",
    )  # fmt: skip
    linux.mount(
        "shm", f"{root}/dev/shm", "tmpfs", _QUIET | linux.MS_NOEXEC,
        f"{owner}mode=700,size={files.shm_bytes},nr_inodes=4096",
    )  # fmt: skip
    if proc is not None:
        linux.move_tree(proc, f"{root}/proc")
    else:
        linux.mount("proc", f"{root}/proc", "proc", _QUIET | linux.MS_NOEXEC)
    linux.pivot_into(root)
    linux.mount("cell", "/", flags=linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _QUIET)


def _show(root: str, path: str, flags: int) -> None:
    """The file or tree `path` of the host at the same place below the new root."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    target = f"{root}{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode):
        with contextlib.suppress(FileExistsError):
            os.symlink(os.readlink(path), target)
        return
    if stat.S_ISDIR(mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    tree = linux.clone_tree(path)
    linux.set_attributes(tree, flags)
    linux.move_tree(tree, target)


def _write_accounts(root: str, spec: Spec) -> None:
    uid = os.getuid() if spec.uid is None else spec.uid
    gid = os.getgid() if spec.uid is None else spec.uid
    for name, text in (("passwd", _PASSWD), ("group", _GROUP)):
        with open(f"{root}/etc/{name}", "w", encoding="ascii") as file:
            file.write(text.format(uid=uid, gid=gid))


# --- all tiers that have Landlock


def _landlock(spec: Spec) -> None:
    files = spec.files
    own_root = bool(spec.namespaces & linux.CLONE_NEWNS)
    me = f"/proc/{os.getpid()}"
    visible = (*files.read, files.directory, "/etc/passwd", "/etc/group")
    if not spec.fresh_proc:
        visible = (*visible, me, *(f"/proc/{each}" for each in _PROC_READ))
    elif own_root:
        visible = ("/",)  # there is nothing in it that may not be read
    landlock.restrict(
        read=visible,
        write=(files.work, "/dev/shm") if own_root else (files.work,),
        devices=(*(f"/dev/{name}" for name in _OPEN_DEVICES), *files.devices),
        # libcuda names its threads there, cutting the file first, and gives up where it may not. Below the process's
        # own number: the rule is bound to the directory that is there now, no other process's.
        amend=(me,),
    )
