"""Who a process is on the bus: its name, and what every heartbeat of it repeats."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal

from keck._version import __version__
from keck.errors import SettingError
from keck.messages import Heartbeat
from keck.settings import Settings

__all__ = ["Worker"]

_NAME_LETTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process of one role."""

    name: str
    """Its key in the bucket of heartbeats: one subject token."""
    role: Literal["gateway", "compiler", "executor"]
    host: str
    pid: int
    started_at: float
    """Unix seconds."""

    @classmethod
    def of(cls, settings: Settings, role: Literal["gateway", "compiler", "executor"]) -> Worker:
        """This process; named by ``KECK_WORKER``, else by role, host and pid.

        Raises:
            SettingError: ``KECK_WORKER`` is no subject token.
        """
        host, pid = socket.gethostname(), os.getpid()
        if settings.worker and not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{_NAME_LETTERS}}}", settings.worker):
            raise SettingError(
                f"KECK_WORKER={settings.worker!r}: must be 1 to {_NAME_LETTERS} letters, digits, '_' or '-'"
            )
        # A host's name may hold dots, and be longer than a name may; the pid at the end tells processes apart.
        room = _NAME_LETTERS - len(f"{role}--{pid}")
        fallback = f"{role}-{re.sub(r'[^A-Za-z0-9_-]', '-', host)[:room]}-{pid}"
        return cls(name=settings.worker or fallback, role=role, host=host, pid=pid, started_at=time.time())

    def heartbeat(self, *, slots: int, busy: int, **fields: Any) -> Heartbeat:
        """A heartbeat of this moment; `fields` as in :class:`~keck.messages.Heartbeat`."""
        return Heartbeat(
            worker=self.name,
            role=self.role,
            host=self.host,
            pid=self.pid,
            version=__version__,
            started_at=self.started_at,
            at=time.time(),
            slots=slots,
            busy=busy,
            **fields,
        )
