"""Running a program as what a service may find itself to be: root, an ordinary user, or either in a container.

The containers are made of what matters to a sandbox: Docker's 14 capabilities or none, masked and read-only parts of
``/proc`` and ``/sys``, a process namespace of one's own, and those rules of the default filter of system calls that
forbid namespaces and mounts. No image, no daemon: tests need root, Linux and nothing else.

Run as ``python -I -S containers.py KIND DIRECTORY PROGRAM…``; tests use :func:`run_as`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["root", "user", "docker root", "k8s restricted"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_USERS = {"user": 20_000, "k8s restricted": 1_000}
# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP
_DOCKER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys")
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What the default filter refuses without CAP_SYS_ADMIN and the like: x86-64, aarch64.
_REFUSED = {
    "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "fanotify_init": (300, 262), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "quotactl": (179, 60), "swapon": (167, 224),
    "reboot": (169, 142), "kexec_load": (246, 104), "init_module": (175, 105), "delete_module": (176, 106),
    "acct": (163, 89), "open_by_handle_at": (304, 265), "kcmp": (312, 272), "io_uring_setup": (425, 425),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "clock_settime": (227, 112), "move_pages": (279, 239),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), 435
_NEW_NAMESPACES = 0x7E02_0000
_ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWIPC, _CLONE_NEWUTS = 0x20000, 0x2000_0000, 0x0800_0000, 0x0400_0000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_OLDER = """
_abi = abi
def abi() -> int:
    return min(_abi(), {version})
"""
_libc = ctypes.CDLL(None, use_errno=True)


# --- for tests


def interpreter() -> str | None:
    """A Python that any user of this machine may execute; None: there is none."""
    for path in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if path is not None and _is_public(Path(path).resolve()) and _is_public(Path(path)):
            program = "import enum, sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([path, "-I", "-c", program], check=False).returncode == 0:
                return path
    return None


def _is_public(path: Path) -> bool:
    return all(stat.S_IMODE(each.stat().st_mode) & 0o001 for each in (path, *path.parents))


@contextlib.contextmanager
def place(*, landlock: int | None = None) -> Iterator[Path]:
    """A directory that every user reads, with a copy of the package that is tested, on a kernel of that Landlock."""
    directory = Path(tempfile.mkdtemp(prefix="keck-container-"))
    try:
        directory.chmod(0o755)
        import keck_sandbox

        package = Path(keck_sandbox.__file__).parent
        shutil.copytree(package, directory / "keck_sandbox", ignore=shutil.ignore_patterns("__pycache__"))
        if landlock is not None:
            with open(directory / "keck_sandbox" / "inside" / "landlock.py", "a") as module:
                module.write(_OLDER.format(version=landlock))
        yield directory
    finally:
        shutil.rmtree(directory)


def run_as(
    kind: Kind, program: str, *arguments: str, timeout_s: float = 50, landlock: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code, which may import `keck_sandbox`, as one kind of service.

    Args:
        kind: of service.
        program, arguments, timeout_s: what is run.
        landlock: as on a kernel that has this version of it.
    """
    python = interpreter()
    assert python is not None
    with place(landlock=landlock) as directory:
        (directory / "program.py").write_text(program)
        return subprocess.run(
            [python, "-I", "-S", str(Path(__file__)), kind, str(directory), python, str(directory / "program.py"), *arguments],
            capture_output=True, text=True, timeout=timeout_s, check=False,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(directory)},
        )  # fmt: skip


# --- as a program


def main() -> None:
    """Become the kind of service, then the program."""
    kind, directory, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.chdir(directory)
    if kind in ("docker root", "k8s restricted"):
        _enter_container()
    user = _USERS.get(kind)
    if user is not None:
        if kind == "k8s restricted":
            _call(_libc.prctl(38, 1, 0, 0, 0))  # no_new_privs
            _drop_bounding_set(keep=())
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    elif kind == "docker root":
        _drop_bounding_set(keep=_DOCKER_CAPABILITIES)
        _set_capabilities(_DOCKER_CAPABILITIES)
    os.execv(argv[0], argv)


def _enter_container() -> None:
    """Returns in the first process of a namespace of processes."""
    _call(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS))
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _call(_libc.prctl(1, signal.SIGKILL, 0, 0, 0))  # with the process that started this
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _make_devices()
    for path in filter(os.path.exists, _MASKED):
        if os.path.isdir(path):
            _mount("tmpfs", path, "tmpfs", _MS_RDONLY)
        else:
            _mount("/dev/null", path, flags=_MS_BIND)
    for path in filter(os.path.exists, _READ_ONLY):
        _mount(path, path, flags=_MS_BIND | _MS_REC)
        _make_read_only(path)
    _filter()


def _make_devices() -> None:
    with tempfile.TemporaryDirectory() as name:
        _mount("tmpfs", name, "tmpfs", _MS_NOSUID, "mode=755,size=64k")
        for device in _DEVICES:
            os.close(os.open(f"{name}/{device}", os.O_CREAT | os.O_WRONLY))
            _mount(f"/dev/{device}", f"{name}/{device}", flags=_MS_BIND)
        os.mkdir(f"{name}/shm")
        _mount("shm", f"{name}/shm", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=1777,size=64m")
        for number, link in enumerate(("stdin", "stdout", "stderr")):
            os.symlink(f"/proc/self/fd/{number}", f"{name}/{link}")
        os.symlink("/proc/self/fd", f"{name}/fd")
        _mount(name, "/dev", flags=_MS_BIND | _MS_REC)
        _call(_libc.umount2(name.encode(), 2))


def _make_read_only(path: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(1, 0, 0, 0)
    arguments = (
        ctypes.c_char_p(path.encode()),
        ctypes.c_long(0x8000),
        ctypes.byref(attributes),
        ctypes.c_long(32),
    )
    _call(_libc.syscall(ctypes.c_long(442), ctypes.c_long(-100), *arguments))  # mount_setattr, recursive


def _drop_bounding_set(*, keep: tuple[int, ...]) -> None:
    for capability in range(64):
        if capability not in keep and _libc.prctl(24, capability, 0, 0, 0) < 0:
            break  # the last is behind us


def _set_capabilities(held: tuple[int, ...]) -> None:
    low = sum(1 << each for each in held)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x2008_0522, 0))
    _call(_libc.capset(header, ctypes.create_string_buffer(struct.pack("IIIIII", low, low, 0, 0, 0, 0))))


def _filter() -> None:
    """As the default filter of Docker and containerd for what needs CAP_SYS_ADMIN."""
    token, column = _ARCHITECTURES[platform.machine()]
    allow, refuse, unknown = 0x7FFF_0000, 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    code = [(load, 0, 0, 4), (equal, 1, 0, token), (answer, 0, 0, refuse), (load, 0, 0, 0)]
    for numbers in _REFUSED.values():
        code += [(equal, 0, 1, numbers[column]), (answer, 0, 0, refuse)]
    code += [(equal, 0, 1, _CLONE3), (answer, 0, 0, unknown)]
    code += [
        (equal, 0, 3, _CLONE[column]),
        (load, 0, 0, 16),
        (any_bit, 0, 1, _NEW_NAMESPACES),
        (answer, 0, 0, refuse),
    ]
    code += [(answer, 0, 0, allow)]
    program = b"".join(struct.pack("HBBI", *each) for each in code)
    held = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(held)))
    _call(_libc.prctl(22, 2, described, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    names = (source.encode(), target.encode(), kind.encode() or None)
    _call(_libc.mount(*names, ctypes.c_ulong(flags), options.encode() or None), target)


def _call(result: int, what: str = "") -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
