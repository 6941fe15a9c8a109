"""Every name on the bus: subjects, streams, consumers, buckets, headers. Nowhere else.

===========================================  ==================================  =========================
subject                                      written by                          read by
===========================================  ==================================  =========================
check.requested.<lane>.<run>.<check_id>      gateway, orchestrators, executors   compilers
compile.done.<target>.<lane>.<run>.<id>      compilers                           executors of that target
eval.done.<run>.<check_id>.<generation>      executors, compilers                orchestrators, archive
live.eval.done.<run>.<id>.<generation>       the server (republish: stored)      gateways, clients
check.progress.<run>.<check_id>              all stages (core, not stored)       gateways, clients
check.cancel.<run>.<check_id>                gateway, orchestrators (core)       all services
dead.<stage>.<run>.<check_id>                any consumer                        operators
keck.check                                   anybody (request-reply)             gateways (queue group)
keck.replay                                  anybody (request, many replies)     gateways (queue group)
===========================================  ==================================  =========================
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

__all__ = [
    "ARTIFACTS_BUCKET",
    "BUILDS",
    "BUILDS_INDEX_BUCKET",
    "CANCELS",
    "CHECKS",
    "CHECK_SERVICE",
    "CUDA_ANY",
    "DEAD",
    "EVALS",
    "EXPECTED_LAST_SUBJECT_SEQUENCE",
    "GATEWAY_QUEUE",
    "HISTORY",
    "LANES",
    "LIVE_EVALS",
    "MSG_ID",
    "PROGRESS",
    "REPLAY_SERVICE",
    "ROLES",
    "WORKERS_BUCKET",
    "CheckKey",
    "build_id",
    "cancel",
    "check_key",
    "check_requested",
    "compile_consumer",
    "compile_done",
    "dead",
    "eval_done",
    "execute_consumer",
    "inbox_prefix",
    "is_reserved",
    "live_eval_done",
    "progress",
    "request_id",
]

CHECKS: Final = "CHECKS"
BUILDS: Final = "BUILDS"
EVALS: Final = "EVALS"
HISTORY: Final = "HISTORY"
DEAD: Final = "DEAD"

ARTIFACTS_BUCKET: Final = "artifacts"
"""Object Store of shared objects and large sources, named by their sha256."""
BUILDS_INDEX_BUCKET: Final = "builds"
"""Key-value: build key (what goes into a build) to what came out of it."""
WORKERS_BUCKET: Final = "workers"
"""Key-value: heartbeats, forgotten by the server after a minute."""

LANES: Final = ("interactive", "bulk")
CUDA_ANY: Final = "cuda-any"
"""Target of a check that any CUDA executor may take."""

CHECK_SERVICE: Final = "keck.check"
REPLAY_SERVICE: Final = "keck.replay"
GATEWAY_QUEUE: Final = "gateway"
LIVE_EVALS: Final = "live.eval.done.>"
PROGRESS: Final = "check.progress.>"
CANCELS: Final = "check.cancel.>"

ROLES: Final = ("gateway", "compiler", "executor", "orchestrator", "observer", "admin")
"""Users of a server with roles, by the name they log in with (`keck.roles`)."""

_RESERVED: Final = frozenset({"check", "compile", "eval", "live", "dead", "keck", "$JS", "$KV", "$O", "$SYS"})

MSG_ID: Final = "Nats-Msg-Id"
EXPECTED_LAST_SUBJECT_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"


class _Named(Protocol):
    """An event of a check, whichever."""

    @property
    def run(self) -> str: ...
    @property
    def check_id(self) -> str: ...
    @property
    def generation(self) -> int: ...


class CheckKey(NamedTuple):
    """What names one generation of one check."""

    run: str
    check_id: str
    generation: int

    @classmethod
    def of(cls, event: _Named) -> CheckKey:
        """The check that an event is of."""
        return cls(event.run, event.check_id, event.generation)


def check_requested(lane: str, run: str, check_id: str) -> str:
    """Subject of a request."""
    return f"check.requested.{lane}.{run}.{check_id}"


def compile_done(target: str, lane: str, run: str, check_id: str) -> str:
    """Subject of a runnable build."""
    return f"compile.done.{target}.{lane}.{run}.{check_id}"


def eval_done(key: CheckKey) -> str:
    """Subject of a verdict: one message ever."""
    return f"eval.done.{key.run}.{key.check_id}.{key.generation}"


def live_eval_done(key: CheckKey) -> str:
    """Where the server repeats a verdict once it is stored."""
    return f"live.{eval_done(key)}"


def check_key(subject: str) -> CheckKey:
    """The check that an ``eval.done`` or ``live.eval.done`` subject names.

    Raises:
        ValueError: the subject is of another shape.
    """
    tokens = subject.removeprefix("live.").split(".")
    if len(tokens) != 5 or tokens[:2] != ["eval", "done"]:
        raise ValueError(f"not a verdict's subject: {subject}")
    return CheckKey(tokens[2], tokens[3], int(tokens[4]))


def progress(run: str, check_id: str) -> str:
    """Subject of a check's progress."""
    return f"check.progress.{run}.{check_id}"


def cancel(run: str, check_id: str) -> str:
    """Subject on which a check is cancelled."""
    return f"check.cancel.{run}.{check_id}"


def request_id(key: CheckKey, *, rebuilds: int = 0) -> str:
    """Msg-Id of a request: the same check published twice is one check, unless it is to be built once more."""
    return f"{key.run}.{key.check_id}.{key.generation}.check.requested" + (f".{rebuilds}" if rebuilds else "")


def build_id(key: CheckKey, *, rebuilds: int = 0) -> str:
    """Msg-Id of a runnable build."""
    return f"{key.run}.{key.check_id}.{key.generation}.compile.done" + (f".{rebuilds}" if rebuilds else "")


def dead(stage: str, run: str, check_id: str) -> str:
    """Subject of a dead letter."""
    return f"dead.{stage}.{run}.{check_id}"


def compile_consumer(lane: str) -> str:
    """Durable consumer of the compilers."""
    return f"compile-{lane}"


def execute_consumer(target: str, lane: str) -> str:
    """Durable consumer of the executors of one target."""
    return f"execute-{target}-{lane}"


def inbox_prefix(user: str) -> str:
    """Where a user hears answers: users named for a role have inboxes that no other role may listen to."""
    return f"_INBOX_{user}" if user in ROLES else "_INBOX"


def is_reserved(subject: str) -> bool:
    """Whether a subject means something to Keck or to the server, so that nobody's answer may be sent there.

    The server checks no request's reply subject: an answer must not become an event because the caller asked for
    it to be sent where events are.
    """
    return subject.split(".", maxsplit=1)[0] in _RESERVED
