"""Starting a contained process, and everything that is known of it until it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keck_sandbox.capped_log import CappedLog
from keck_sandbox.environment import cell_environment
from keck_sandbox.policy import Policy
from keck_sandbox.reap import cell_members, kill_all

__all__ = ["Exit", "Process", "spawn"]

_LAUNCHER = str(Path(__file__).with_name("launch.py"))
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    code: int
    """Exit status; negative: killed by that signal."""
    wall_s: float
    cpu_s: float
    """Of the process and of every descendant that was waited for."""
    peak_memory_bytes: int
    """Largest resident set of any one of them."""

    @property
    def signal_name(self) -> str:
        """``SIGSEGV`` and the like, or empty where no signal ended it."""
        if self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    @property
    def described(self) -> str:
        """For people: what ended it."""
        return f"killed by {self.signal_name}" if self.code < 0 else f"exited with status {self.code}"


class Process:
    """A running cell. Made by :func:`spawn`, or by a zygote.

    Args:
        pid: its first process, a child of this one.
        output: read end of what it prints; owned from now on.
    """

    def __init__(self, pid: int, output: int, policy: Policy) -> None:
        self.pid = pid
        self.policy = policy
        self._started = time.monotonic()
        self._log = CappedLog(policy.output_bytes)
        self._pidfd = os.pidfd_open(pid)
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)
        self._out = output
        os.set_blocking(self._out, False)
        asyncio.get_running_loop().add_reader(self._out, self._on_output)

    @property
    def running(self) -> bool:
        """Whether the first process of the cell is still there."""
        return not self._exit.done()

    async def wait(self, timeout_s: float | None = None) -> Exit | None:
        """How the process ended, or None if it still runs after `timeout_s` seconds."""
        done, _ = await asyncio.wait({self._exit}, timeout=timeout_s)
        return self._exit.result() if done else None

    async def kill(self) -> Exit:
        """End the whole cell, also what left its process group, and wait until the leader is reaped."""
        if self.running:
            kill_all(cell_members(self.pid))
        else:
            # The leader is reaped: its pid may be somebody else's by now, but its group, if it lives, is not.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return await asyncio.shield(self._exit)

    def output(self) -> str:
        """Head and tail of what it printed so far."""
        self._drain()
        return self._log.text()

    def _on_output(self) -> None:
        try:
            data = os.read(self._out, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._log.write(data)
        else:
            self._close_output()

    def _drain(self) -> None:
        for _ in range(64):  # bounded: a flood never ends
            before = self._log.total
            if self._out >= 0:
                self._on_output()
            if self._log.total == before:
                return

    def _close_output(self) -> None:
        if self._out >= 0:
            asyncio.get_running_loop().remove_reader(self._out)
            os.close(self._out)
            self._out = -1

    def _on_exit(self) -> None:
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:  # somebody else has waited for it: nothing is known, but it is over
            status, usage = signal.SIGKILL, resource.struct_rusage((0.0, 0.0) + (0,) * 14)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # the group outlives its leader
        # Not until EOF: a daemon that holds the pipe would keep us waiting.
        self._drain()
        self._close_output()
        self._exit.set_result(
            Exit(
                code=code,
                wall_s=time.monotonic() - self._started,
                cpu_s=usage.ru_utime + usage.ru_stime,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        )


async def spawn(policy: Policy, argv: Sequence[str]) -> Process:
    """Start `argv` under `policy`. The one place where builds and runners begin.

    Must be called from the service's main thread: the kernel ends the process when the thread that made it ends.

    Raises:
        OSError: the launcher itself cannot be started.
    """
    spec = {
        "parent": os.getpid(),
        "limits": _limits(policy),
        "env": cell_environment(policy.directory, policy.env),
    }
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        popen = subprocess.Popen(  # noqa: ASYNC220 - fork and exec only; nothing is waited for
            [sys.executable, "-I", "-S", _LAUNCHER, json.dumps(spec), *argv],
            cwd=policy.directory,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            close_fds=True,
            pass_fds=policy.pass_fds,
            start_new_session=True,
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    popen.returncode = 0  # waited for by pidfd, for its resource usage: Popen must not do it as well
    return Process(popen.pid, read, policy)


def _limits(policy: Policy) -> dict[str, int]:
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": policy.open_files,
        "RLIMIT_AS": policy.address_space_bytes,
        "RLIMIT_DATA": policy.data_bytes,
        "RLIMIT_FSIZE": policy.file_bytes,
        "RLIMIT_NPROC": policy.processes,
        "RLIMIT_CPU": policy.cpu_s,
    }
    return {name: value for name, value in wanted.items() if value is not None}
