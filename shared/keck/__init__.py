"""Keck judges GPU kernels: the wire, the bus, the client and the command line."""

from __future__ import annotations

from keck._version import __version__
from keck.batches import Check, Checked
from keck.client import Client
from keck.errors import (
    BadRequest,
    DeadlineExceeded,
    KeckError,
    Misaddressed,
    NotFound,
    NotJudged,
    NotPermitted,
    QueueFull,
    SettingError,
    Unavailable,
)
from keck.load import Load, Queue
from keck.messages import (
    CheckProgress,
    CheckRequested,
    EvalDone,
    Heartbeat,
    Options,
    Replay,
    ReplayProgress,
    new_check_id,
)
from keck.settings import Settings
from keck.subjects import CheckKey
from keck.sync_client import SyncClient
from keck.verdict import ExitCode, Fault, Verdict

__all__ = [
    "BadRequest",
    "Check",
    "CheckKey",
    "CheckProgress",
    "CheckRequested",
    "Checked",
    "Client",
    "DeadlineExceeded",
    "EvalDone",
    "ExitCode",
    "Fault",
    "Heartbeat",
    "KeckError",
    "Load",
    "Misaddressed",
    "NotFound",
    "NotJudged",
    "NotPermitted",
    "Options",
    "Queue",
    "QueueFull",
    "Replay",
    "ReplayProgress",
    "SettingError",
    "Settings",
    "SyncClient",
    "Unavailable",
    "Verdict",
    "__version__",
    "new_check_id",
]
