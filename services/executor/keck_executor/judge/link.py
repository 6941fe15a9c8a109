"""One runner, as the judge sees it: commands out, bounded records in, a budget of seconds."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from keck_executor.runner.wire import MAX_DATAGRAM, ProtocolError, Reply, Status, unpack_reply
from keck_sandbox import Stop, freeze, thaw
from keck_sandbox.reap import cell_members, kill_all

__all__ = ["BrokenProtocol", "OutOfBudget", "RunnerGone", "RunnerLink", "Side"]

Side = Literal["candidate", "reference"]

_FREEZE_S = 5.0
"""Only a thread inside the driver takes more than a moment."""


class RunnerGone(Exception):
    """The process at the other end is no more."""

    def __init__(self, side: Side) -> None:
        super().__init__(f"the {side}'s process ended")
        self.side = side


class BrokenProtocol(Exception):
    """A runner said something that no honest runner says."""

    def __init__(self, side: Side, why: object) -> None:
        super().__init__(f"the {side}'s process broke the judge's protocol: {why}")
        self.side = side


class OutOfBudget(Exception):
    """A runner used up the time it was given."""

    def __init__(self, side: Side, budget_s: float) -> None:
        super().__init__(f"the {side} used up its {budget_s:g} s")
        self.side = side
        self.budget_s = budget_s


class RunnerLink:
    """The judge's end of a runner's socket.

    Args:
        side: whose code runs there.
        sock: SEQPACKET socket to it.
        pid: leader of its cell, for freezing.
        budget_s: seconds this runner may keep the judge waiting, all commands together.
    """

    def __init__(self, side: Side, sock: socket.socket, pid: int, budget_s: float) -> None:
        self.side: Side = side
        self.budget_s = budget_s
        self.spent_s = 0.0
        self._sock = sock
        self._pid = pid
        self._stop: Stop | None = None

    def send(self, op: str, *, fds: Sequence[int] = (), **fields: Any) -> int:
        """Send a command; returns its serial, which the reply must repeat and nobody can guess."""
        self.thaw()
        serial = secrets.randbits(31)
        data = json.dumps({"op": op, "serial": serial, **fields}).encode()
        try:
            self._sock.settimeout(10.0)
            socket.send_fds(self._sock, [data], list(fds))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise RunnerGone(self.side) from error
        except TimeoutError as error:
            raise OutOfBudget(self.side, self.budget_s) from error
        except OSError as error:  # EMSGSIZE: the reference's inputs make no command that fits a datagram
            raise BrokenProtocol(self.side, f"`{op}` cannot be sent: {error.strerror}") from error
        return serial

    def receive(self, serial: int, *, timeout_s: float | None = None) -> Reply | None:
        """The reply to a command, or None after `timeout_s` seconds.

        Raises:
            OutOfBudget: the runner's whole budget is used up.
            RunnerGone: its process has ended.
            BrokenProtocol: the reply is malformed or answers something else.
        """
        left = max(0.001, self.budget_s - self.spent_s)
        self._sock.settimeout(left if timeout_s is None else min(left, timeout_s))
        started = time.monotonic()
        try:
            data = self._sock.recv(MAX_DATAGRAM + 1)
        except TimeoutError:
            self.spent_s += time.monotonic() - started
            if timeout_s is None or self.spent_s >= self.budget_s:
                raise OutOfBudget(self.side, self.budget_s) from None
            return None
        except ConnectionResetError as error:
            raise RunnerGone(self.side) from error
        self.spent_s += time.monotonic() - started
        if not data:
            raise RunnerGone(self.side)
        try:
            reply = unpack_reply(data)
        except ProtocolError as error:
            raise BrokenProtocol(self.side, error) from error
        if reply.serial != serial:
            raise BrokenProtocol(self.side, "a reply to no command")
        return reply

    def ask(self, op: str, *, fds: Sequence[int] = (), **fields: Any) -> Reply:
        """A command and its reply."""
        reply = self.receive(self.send(op, fds=fds, **fields))
        assert reply is not None  # without a timeout of its own, `receive` raises
        return reply

    def must(self, op: str, *, fds: Sequence[int] = (), **fields: Any) -> Reply:
        """A command that only fails where the runner misbehaves."""
        reply = self.ask(op, fds=fds, **fields)
        if reply.status is not Status.OK:
            told = reply.text.decode("utf-8", "replace")[-500:]
            shown = "".join(letter if letter.isprintable() else " " for letter in told)
            raise BrokenProtocol(self.side, f"`{op}` failed: {shown}")
        return reply

    def freeze(self) -> None:
        """Stop every process of the runner until the next command, or :meth:`thaw`.

        Raises:
            BrokenProtocol: one of them does not stand still.
        """
        if self._stop is not None:
            return
        family = self._has_children()
        stop = freeze(self._pid, timeout_s=_FREEZE_S, family=family)
        if stop is not None and not family and self._has_children():  # born between the look and the stop
            stop = freeze(self._pid, timeout_s=_FREEZE_S)
        if stop is None:
            thaw(self._pid)
            raise BrokenProtocol(self.side, "not all of it stands still when it is stopped")
        self._stop = stop

    def require_still(self) -> None:
        """Before what a stopped runner must not have prepared for is timed.

        Raises:
            BrokenProtocol: something has let it go on since.
        """
        if self._stop is not None and not self._stop.lasted():
            raise BrokenProtocol(self.side, "it was stopped and has gone on by itself")

    def kill(self) -> None:
        """End every process of the runner at once; it answers nothing any more."""
        kill_all(cell_members(self._pid))

    def thaw(self) -> None:
        """Let the runner go on, if it was stopped."""
        if self._stop is not None:
            self._stop = None
            thaw(self._pid, family=self._has_children())

    def _has_children(self) -> bool:
        try:
            return any((task / "children").read_bytes() for task in Path(f"/proc/{self._pid}/task").iterdir())
        except OSError:
            return True
