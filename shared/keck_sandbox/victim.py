"""What the probes attack, and what came of it as seen from outside: a probe's own word is no evidence.

Everything here is made to be found: files that anybody may write, a process without protection of its own, listeners
that answer whoever comes. What holds then is the cell.
"""

from __future__ import annotations

import contextlib
import glob
import os
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keck_sandbox.collect import remove_tree
from keck_sandbox.environment import import_paths

__all__ = ["Victim", "victims"]

_SECRET = "KECK_SELFTEST_SECRET"
_START_S = 20.0
# Says the address of something in its memory, then the number of every signal that reaches it; ends with its input.
_PROGRAM = """
import ctypes, os, signal, sys
kept = ctypes.create_string_buffer(4096)
def tell(number, frame): os.write(1, bytes([number]))
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE}:
    try: signal.signal(number, tell)
    except (OSError, ValueError): pass
os.write(1, b"%d\\n" % ctypes.addressof(kept))
while os.read(0, 4096): pass
"""
_HOMES = ("/root", "/home", "/var/lib", "/var/log", "/etc/ssl", "/run", "/var/run/secrets/kubernetes.io")
_DEVICES = (
    "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/tty0",
    "/dev/loop-control", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/dri/card0", "/dev/vhost-net",
    "/dev/ptmx", "/dev/hwrng", "/dev/userfaultfd",
)  # fmt: skip
_SWITCHES = (
    "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
    "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/release_agent", "/sys/fs/cgroup/*/cgroup.procs",
)  # fmt: skip
_DAEMONS = (
    "/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket", "/run/systemd/notify", "/run/systemd/private", "/run/systemd/journal/socket",
    "/dev/log", "/run/snapd.socket", "/run/nvidia-persistenced/socket",
)  # fmt: skip
_LIMITS = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_DATA,
)


class Victim:
    """Files, listeners and a process to attack. Made by :func:`victims`, which ends them."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._token, self._earlier = secrets.token_hex(4), secrets.token_hex(4)
        self._secret = secrets.token_hex(16)
        self._tmp = tempfile.gettempdir()
        self._leftovers = {
            "leave_in_tmp": f"{self._tmp}/keck-left-{self._token}",
            "leave_in_shm": f"/dev/shm/keck-left-{self._token}",
        }
        for path in self._leftovers.values():
            stack.callback(_unlink, path)
        self._make_files(stack)
        self._listeners = self._listen(stack)
        self._process = self._start(stack)
        self.facts: Mapping[str, Any] = self._facts()
        """What the probes are told. The secret only backwards: the whole is in every process's arguments."""
        self._before = self._state()

    def effects(self) -> dict[str, str]:
        """Probes whose effect is there, whatever they said, and what it is. After the end of the cell."""
        seen = self._arrived() | self._signals()
        now = self._state()
        for what, (name, value) in now.items():
            if value != self._before[what][1]:
                seen[name] = f"{what}: {value}, before {self._before[what][1]}"
        seen |= {name: path for name, path in self._leftovers.items() if os.path.lexists(path)}
        daemons = _processes_named(f"kp-{self._token}")
        if daemons:
            seen["leave_daemon"] = f"processes {daemons}"
        return seen

    def _make_files(self, stack: contextlib.ExitStack) -> None:
        self._directory.chmod(0o777)
        for name, mode in (("marker", 0o644), ("private", 0o600), ("writable", 0o666), ("removable", 0o666)):
            path = self._directory / name
            path.write_text(name)
            path.chmod(mode)
        # As if by an earlier cell.
        left = Path(self._tmp, f"keck-left-{self._earlier}")
        left.write_text("left")
        left.chmod(0o644)
        stack.callback(left.unlink, missing_ok=True)

    def _listen(self, stack: contextlib.ExitStack) -> dict[str, socket.socket]:
        """By the name of the probe that would reach it."""
        address = f"keck-victim-{self._token}"
        kinds: dict[str, tuple[int, int, Any]] = {
            "connect_tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "connect_tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "send_udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "connect_abstract": (socket.AF_UNIX, socket.SOCK_SEQPACKET, f"\0{address}"),
            "send_to_abstract": (socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{address}-datagrams"),
            "connect_path": (socket.AF_UNIX, socket.SOCK_STREAM, str(self._directory / "stream")),
            "send_to_path": (socket.AF_UNIX, socket.SOCK_DGRAM, str(self._directory / "datagrams")),
        }
        listeners = {}
        for name, (family, kind, where) in kinds.items():
            try:
                listener = stack.enter_context(socket.socket(family, kind))
                listener.bind(where)
            except OSError:
                if name == "connect_tcp6":  # not everywhere
                    continue
                raise
            if kind != socket.SOCK_DGRAM:
                listener.listen()
            if isinstance(where, str) and where.startswith("/"):
                os.chmod(where, 0o777)
            listeners[name] = listener
        return listeners

    def _start(self, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, _SECRET: self._secret}, cwd=self._directory, start_new_session=True,
        )  # fmt: skip
        stack.enter_context(process)  # closes its pipes, at which it ends, and waits
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], _START_S)[0]:
            raise TimeoutError("the victim does not start")
        self._address = int(os.read(process.stdout.fileno(), 64))
        return process

    def _facts(self) -> dict[str, Any]:
        homes = [*_HOMES, os.path.expanduser("~"), os.getcwd(), str(self._directory)]
        switches = [path for pattern in _SWITCHES for path in sorted(glob.glob(pattern))[:3]]
        ports = {name: each.getsockname()[1] for name, each in self._listeners.items() if name in _PORTS}
        files = {name: str(self._directory / name) for name in ("marker", "private", "writable", "removable")}
        return files | {
            "token": self._token,
            "earlier": self._earlier,
            "terces": self._secret[::-1],
            "root": os.getuid() == 0,
            "pid": self._process.pid,
            "pid_started": _started(self._process.pid),
            "group": self._process.pid,
            "service": os.getpid(),
            "service_started": _started(os.getpid()),
            "pid_namespace": os.stat("/proc/self/ns/pid").st_ino,
            "address": self._address,
            "directory": str(self._directory),
            "tmp": self._tmp,
            "writable_bytes": len("writable"),
            "tcp_port": ports["connect_tcp"],
            "tcp6_port": ports.get("connect_tcp6", 0),
            "udp_port": ports["send_udp"],
            "abstract": f"keck-victim-{self._token}",
            "abstract_datagrams": f"keck-victim-{self._token}-datagrams",
            "socket": str(self._directory / "stream"),
            "datagrams": str(self._directory / "datagrams"),
            "homes": _with_files(homes, readable=import_paths()),
            "devices": [path for path in _DEVICES if os.path.exists(path)],
            "switches": [path for path in switches if os.stat(path).st_mode & 0o222],
            "daemons": [path for path in _DAEMONS if os.path.exists(path)],
            "import_paths": import_paths(),
            "fds": [],
            "work_bytes": 64 << 20,
            "work_inodes": 20_000,
            "shm_bytes": 64 << 20,
            "processes": 300,
        }

    def _state(self) -> dict[str, tuple[str, object]]:
        """Of everything that could be changed: which probe would, and what it is."""
        pid, directory = self._process.pid, self._directory
        marker, writable = os.stat(directory / "marker"), os.stat(directory / "writable")
        return {
            "marker": ("change_mode", (marker.st_mode, marker.st_uid, marker.st_ctime_ns)),
            "writable": ("append_to_writable", (writable.st_mode, writable.st_size, writable.st_mtime_ns)),
            "removable": ("unlink_outside", os.path.exists(directory / "removable")),
            "names": ("create_beside_marker", tuple(sorted({*os.listdir(directory)} - {"removable"}))),
            "limits": ("limit_victim", tuple(resource.prlimit(pid, which) for which in _LIMITS)),
            "priority": ("renice_victim", os.getpriority(os.PRIO_PROCESS, pid)),
            "processors": ("pin_victim", tuple(sorted(os.sched_getaffinity(pid)))),
            "scheduling": ("schedule_victim", os.sched_getscheduler(pid)),
            "name": ("rename_victim", Path(f"/proc/{pid}/comm").read_text()),
            "oom_score_adj": ("offer_victim", Path(f"/proc/{pid}/oom_score_adj").read_text()),
            "tracer": ("seize_victim", _tracer(pid)),
            "ended": ("send_signal", self._process.poll()),
        }

    def _arrived(self) -> dict[str, str]:
        seen = {}
        for name, listener in self._listeners.items():
            while select.select([listener], [], [], 0)[0]:
                if listener.type == socket.SOCK_DGRAM:  # which says whose it is
                    said = listener.recv(64).decode("utf-8", "replace")
                    seen[said if said in _BY_DATAGRAM else name] = "it arrived"
                else:
                    listener.accept()[0].close()
                    seen[name] = "it arrived"
        return seen

    def _signals(self) -> dict[str, str]:
        out = self._process.stdout
        assert out is not None
        seen = {}
        while select.select([out], [], [], 0)[0]:
            told = os.read(out.fileno(), 4096)
            if not told:
                break
            for number in told:
                seen[_BY_SIGNAL.get(number, "send_signal")] = f"signal {number} arrived"
        return seen


_PORTS = ("connect_tcp", "connect_tcp6", "send_udp")
_BY_DATAGRAM = ("send_udp", "send_to_path", "send_to_abstract", "send_by_pair", "connect_pair")
_BY_SIGNAL: dict[int, str] = {signal.SIGUSR2: "signal_by_ownership", signal.SIGIO: "signal_by_ioctl"}


@contextlib.contextmanager
def victims() -> Iterator[Victim]:
    """Set up what the probes attack, with a secret in this process's environment; all of it is gone afterwards.

    Raises:
        OSError: it cannot be set up.
    """
    directory = Path(tempfile.mkdtemp(prefix="keck-victim-"))
    with contextlib.ExitStack() as stack:
        stack.callback(remove_tree, directory)
        victim = Victim(directory, stack)
        os.environ[_SECRET] = victim.facts["terces"][::-1]
        stack.callback(os.environ.pop, _SECRET, None)
        yield victim


def _with_files(paths: Iterable[str], *, readable: Iterable[str]) -> dict[str, str]:
    """Those that are directories, each with a file that is in it; not those that every cell may read."""
    found: dict[str, str] = {}
    seen = [Path(each) for each in (*readable, sys.prefix, sys.base_prefix)]
    for path in paths:
        if any(Path(path).is_relative_to(each) for each in seen):
            continue
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            file = next((entry.name for entry in entries if entry.is_file(follow_symlinks=False)), None)
            if file is not None:
                found[path] = file
    return found


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _started(pid: int) -> int:
    """When a process was started, which tells it from a later one of its number."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def _tracer(pid: int) -> str:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return next((line for line in text.splitlines() if line.startswith("TracerPid")), "")


def _processes_named(name: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                before, _, after = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
                if before.partition("(")[2] == name and after.split()[0] != "Z":
                    found.append(int(entry))
    return found
