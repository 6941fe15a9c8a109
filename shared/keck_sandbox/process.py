"""Starting a contained process, and everything that is known of it until it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keck_sandbox.capped_log import CappedLog
from keck_sandbox.entering import Entered, Entrance, readable
from keck_sandbox.guardian import guard, unguard
from keck_sandbox.inside.enter import ENDED
from keck_sandbox.inside.spec import Spec
from keck_sandbox.policy import Policy
from keck_sandbox.reap import become_subreaper, cell_members, kill_all, proportional_bytes, resident_bytes
from keck_sandbox.render import render
from keck_sandbox.tier import Tier, tier_in_force
from keck_sandbox.users import release_user

__all__ = ["Exit", "Process", "beginning", "current_tier", "spawn"]

_LAUNCHER = str(Path(__file__).parent / "inside" / "launch.py")
_READ_BYTES = 256 * 1024
_START_S = 30.0
_WATCH_S = 0.05
_END_S = 5.0
_REAP_EVERY_S = 0.002


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
    over_memory: bool = False
    """The cell took more memory than its policy allows, and was killed for it."""

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
        if self.over_memory:
            return "killed for taking more memory than it may"
        return f"killed by {self.signal_name}" if self.code < 0 else f"exited with status {self.code}"


class Process:
    """A running cell. Made by :func:`spawn`, or by a zygote.

    Args:
        entered: its processes, by now of this one's family, and its work directory.
        output: read end of what it prints; owned from now on.
        status: where its init tells how it ended; owned from now on.
        spec: what it was made of.
        tier: on which rung it was made.
    """

    def __init__(
        self, entered: Entered, output: int, status: socket.socket, policy: Policy, *, spec: Spec, tier: Tier
    ) -> None:
        self.pid = entered.pid
        """The child to wait for: where there is a pid namespace, its init."""
        self.leader = entered.leader
        """The cell's first process: what is stopped, and what the orphans of the cell belong to."""
        self.work_fd = entered.work_fd
        """Its work directory, for :func:`keck_sandbox.collect.read_file`; closed by :meth:`kill`."""
        self.policy = policy
        self.tier = tier
        self._uid = None if policy.shares_user else spec.uid
        self._whole = spec.fresh_proc
        """Whether the first process is the init of a pid namespace, with which everything ends."""
        self._started = time.monotonic()
        self._log = CappedLog(policy.output_bytes)
        self._over_memory = False
        self._leader_gone = False
        self._rest: asyncio.Task[None] | None = None
        self._guarded = policy.trust == "none" and not self._whole
        if self._guarded:
            guard(self.leader)
        loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self.pid)
        self._exit: asyncio.Future[Exit] = loop.create_future()
        loop.add_reader(self._pidfd, self._on_exit)
        self._status = status
        self._out = output
        os.set_blocking(self._out, False)
        loop.add_reader(self._out, self._on_output)
        self._watch = loop.create_task(self._watch_memory()) if policy.memory_bytes else None

    @property
    def running(self) -> bool:
        """Whether anything of the cell is still there."""
        return not self._exit.done()

    async def wait(self, timeout_s: float | None = None) -> Exit | None:
        """How the process ended, or None if it still runs after `timeout_s` seconds."""
        done, _ = await asyncio.wait({self._exit}, timeout=timeout_s)
        return self._exit.result() if done else None

    async def kill(self) -> Exit:
        """End the whole cell, also what left its process group, and wait until all of it is gone.

        A pid namespace is gone when its first process is: that is the kernel's own order. Elsewhere what the leader
        leaves behind becomes the service's, which kills and reaps until there is nothing left of its group.

        Raises:
            TimeoutError: a process does not end, as one inside a driver may not; the cell's GPU must not be used
                until :meth:`wait` returns.
        """
        try:
            if not self._leader_gone:
                kill_all({self.pid} if self._whole else cell_members(self.leader))
            async with asyncio.timeout(_END_S):
                return await asyncio.shield(self._exit)
        finally:
            if self.work_fd >= 0:
                os.close(self.work_fd)  # and with the last descriptor its file system
                self.work_fd = -1

    def output(self) -> str:
        """Head and tail of what it printed so far."""
        self._drain()
        return self._log.text()

    def _told_status(self, status: int) -> int:
        """How the cell ended, by its init's word where that lived to say it; by the init's own end otherwise."""
        with self._status:
            try:
                word = self._status.recv(64)
            except OSError:
                return status
        return int(word.removeprefix(ENDED)) if word.startswith(ENDED) else status

    async def _end_rest(self, ended: Exit) -> None:
        """Without a pid namespace: what outlives the leader is killed and reaped, then the cell is over."""
        while self._end_group():  # noqa: ASYNC110 - the kernel tells of no group's end
            await asyncio.sleep(_REAP_EVERY_S)
        self._finish(ended)

    def _end_group(self) -> bool:
        """Kill the leader's group and reap what has ended of it; whether anything is left."""
        # Once the leader is reaped its pid may be somebody else's, but its group, if it lives, is not.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.leader, signal.SIGKILL)
        try:
            while os.waitpid(-self.leader, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    async def _watch_memory(self) -> None:
        limit = self.policy.memory_bytes or 0
        while not self._leader_gone:
            await asyncio.sleep(_WATCH_S)
            # Forked processes share most of their pages: the cheap sum only says when to look closer.
            if (
                not self._leader_gone
                and resident_bytes(self.leader) > limit
                and proportional_bytes(self.leader) > limit
            ):
                self._over_memory = True
                kill_all(cell_members(self.leader))
                return

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
        loop = asyncio.get_running_loop()
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:  # ended, and yet not for us to reap: somebody traces it
                loop.remove_reader(self._pidfd)
                loop.call_later(_WATCH_S, loop.add_reader, self._pidfd, self._on_exit)
                return
        except ChildProcessError:  # somebody else has waited for it: nothing is known, but it is over
            status, usage = signal.SIGKILL, resource.struct_rusage((0.0, 0.0) + (0,) * 14)
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._leader_gone = True
        code = os.waitstatus_to_exitcode(self._told_status(status))
        # Not until EOF: a daemon that holds the pipe would keep us waiting.
        self._drain()
        self._close_output()
        if self._watch is not None:
            self._watch.cancel()
        ended = Exit(
            code=code,
            wall_s=time.monotonic() - self._started,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=usage.ru_maxrss * 1024,
            over_memory=self._over_memory,
        )
        if self._whole or not self._end_group():
            self._finish(ended)
        else:
            self._rest = loop.create_task(self._end_rest(ended))

    def _finish(self, ended: Exit) -> None:
        if self._guarded:
            unguard(self.leader)
        if self._uid is not None:
            release_user(self._uid)
        self._exit.set_result(ended)


@dataclass(slots=True)
class Beginning:
    """A cell that is being made."""

    policy: Policy
    tier: Tier
    spec: Spec
    read: int
    output: int
    """Where it is to print to; closed here once it is there."""
    entered: Entered | None = None
    status: socket.socket | None = None

    def process(self) -> Process:
        """The cell, which runs."""
        assert self.entered is not None
        assert self.status is not None
        return Process(self.entered, self.read, self.status, self.policy, spec=self.spec, tier=self.tier)


@contextlib.contextmanager
def beginning(policy: Policy, tier: Tier) -> Iterator[Beginning]:
    """All that a cell needs before it is entered; if entering fails, nothing of it is left."""
    spec = render(policy, tier)
    read, write = os.pipe2(os.O_CLOEXEC)
    begun = Beginning(policy, tier, spec, read, write)
    try:
        yield begun
    except BaseException:
        os.close(read)
        if begun.entered is not None:
            begun.entered.abandon()
        if spec.uid is not None and not policy.shares_user:
            release_user(spec.uid)
        raise
    finally:
        os.close(write)


async def spawn(policy: Policy, argv: Sequence[str]) -> Process:
    """Start `argv` under `policy`, on the tier in force. The one place where builds and runners begin.

    Must be called from the service's main thread, as a subreaper: the kernel ends a cell with the thread that is its
    parent, and makes the service the parent of what the launcher leaves behind.

    Raises:
        OSError: the cell cannot be made on this tier; the message says which step failed.
        TimeoutError: it does not come up.
    """
    become_subreaper()
    with beginning(policy, await current_tier()) as begun, Entrance() as entrance:
        status = entrance.theirs.fileno()
        popen = subprocess.Popen(  # noqa: ASYNC220 - fork and exec only; nothing is waited for
            [sys.executable, "-I", "-S", _LAUNCHER, begun.spec.to_json(), str(status), *argv],
            cwd=policy.directory,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=begun.output,
            stderr=begun.output,
            close_fds=True,
            pass_fds=(*policy.pass_fds, status),
            start_new_session=True,
        )
        async with asyncio.timeout(_START_S):
            begun.entered = await entrance.hello()
            await _gone(popen)
            begun.status = await entrance.go()
    return begun.process()


async def current_tier() -> Tier:
    """The tier in force; where nobody has chosen one yet, the strongest that works here.

    Raises:
        OSError: none does.
    """
    tier = tier_in_force()
    if tier is None:
        from keck_sandbox.ladder import TooWeak, climb  # noqa: PLC0415 - which makes cells to find out

        try:
            tier = (await climb()).level
        except TooWeak as error:
            raise OSError(str(error)) from error
    return tier


async def _gone(popen: subprocess.Popen[bytes]) -> None:
    """Wait for the launcher's first process, and reap it: from then on its child is ours."""
    pidfd = os.pidfd_open(popen.pid)
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)
    popen.wait()
