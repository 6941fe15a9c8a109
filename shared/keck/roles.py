"""Who may do what on the bus: for each role the subjects it publishes to and hears, and no others.

The server enforces these lists (`keck.nats_config` renders them), so that a credential is worth what its role needs
and nothing more. Names are whole tokens: a permission has no wildcard for part of one.

Two things they cannot do, since the server looks only at the subject of a message. A request's *reply* subject is
not checked, so whoever may ask the server something can have the answer stored elsewhere: every reader therefore
takes an event only if it names what its subject names. And compilers end checks whose build fails, so what they
write on ``eval.done`` is not told apart from an executor's (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from keck import subjects
from keck.streams import ADVISORY, HANDED_BACK_BUCKET, UNDELIVERED_CONSUMER, stream_configs

__all__ = ["ANONYMOUS", "PERMISSIONS", "Permissions"]

ANONYMOUS: Final = "anonymous"
"""The user of a connection that names none, where the server lets it in: an orchestrator with common inboxes."""


class Permissions(NamedTuple):
    """What one role may publish and subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


_WORKERS: Final = f"$KV.{subjects.WORKERS_BUCKET}.>"
_WORKERS_NOW: Final = f"$JS.API.DIRECT.GET.KV_{subjects.WORKERS_BUCKET}"
_OBJECTS: Final = f"OBJ_{subjects.ARTIFACTS_BUCKET}"
_ENTRIES: Final = f"$O.{subjects.ARTIFACTS_BUCKET}.M.>"
_BUILDS_INDEX: Final = f"$KV.{subjects.BUILDS_INDEX_BUCKET}.>"
_VERDICT: Final = f"$JS.API.DIRECT.GET.{subjects.EVALS}.eval.done.>"
_INBOXES_ANSWERED: Final = ("_INBOX.>", f"{subjects.inbox_prefix('orchestrator')}.>")
"""Where callers of the gateway's request-reply may want their answer."""


def _inbox(role: str) -> str:
    return f"{subjects.inbox_prefix(role)}.>"


def _pull(stream: str, consumer: str) -> tuple[str, ...]:
    """Ask for a consumer's messages and settle them."""
    settle = f"$JS.ACK.{stream}.>" if consumer == "*" else f"$JS.ACK.{stream}.{consumer}.>"
    return (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", settle)


def _handed_back(stream: str) -> tuple[str, ...]:
    """Note and read which deliveries were handed back."""
    keys = f"$KV.{HANDED_BACK_BUCKET}.{stream}.>"
    return (keys, f"$JS.API.DIRECT.GET.KV_{HANDED_BACK_BUCKET}.{keys}")


def _read_artifacts() -> tuple[str, ...]:
    return (f"$JS.API.DIRECT.GET.{_OBJECTS}.{_ENTRIES}", f"$JS.API.DIRECT.GET.{_OBJECTS}")


def _gateway() -> Permissions:
    """Requests in, verdicts out, the whereabouts of checks; and what it creates for everybody (`keck.streams`).

    It may create what is missing under the names that Keck uses, and can neither alter nor delete.
    """
    creates = tuple(
        f"$JS.API.STREAM.{verb}.{config['name']}"
        for config in stream_configs("embedded")
        for verb in ("CREATE", "INFO")
    )
    return Permissions(
        publish=(
            "check.requested.>",
            subjects.CANCELS,
            # What nobody else can end or make: dead letters, cancellations, and new generations in a replay.
            "compile.done.>",
            "eval.done.>",
            _WORKERS,
            *_INBOXES_ANSWERED,
            _VERDICT,
            f"$JS.API.DIRECT.GET.{subjects.EVALS}",
            f"$JS.API.DIRECT.GET.{subjects.HISTORY}",
            f"$JS.API.DIRECT.GET.{subjects.CHECKS}",
            f"$JS.API.DIRECT.GET.{subjects.BUILDS}",
            # What ran out of deliveries, and what is to be said of it.
            *_pull(ADVISORY, UNDELIVERED_CONSUMER),
            f"$JS.API.CONSUMER.CREATE.{ADVISORY}.{UNDELIVERED_CONSUMER}",
            "dead.>",
            f"$JS.API.DIRECT.GET.{subjects.CHECKS}.check.requested.>",
            f"$JS.API.DIRECT.GET.{subjects.BUILDS}.compile.done.>",
            f"$JS.API.DIRECT.GET.{subjects.HISTORY}.check.requested.>",
            f"$JS.API.DIRECT.GET.{subjects.HISTORY}.compile.done.>",
            _WORKERS_NOW,
            f"$JS.API.CONSUMER.INFO.{subjects.CHECKS}.*",
            f"$JS.API.CONSUMER.INFO.{subjects.BUILDS}.*",
            # Messages of checks that have their verdict.
            f"$JS.API.STREAM.MSG.DELETE.{subjects.CHECKS}",
            f"$JS.API.STREAM.MSG.DELETE.{subjects.BUILDS}",
            *creates,
            *(
                f"$JS.API.CONSUMER.CREATE.{subjects.CHECKS}.{subjects.compile_consumer(lane)}"
                for lane in subjects.LANES
            ),
            f"$JS.API.CONSUMER.CREATE.{subjects.BUILDS}.*",
        ),
        subscribe=(
            _inbox("gateway"),
            subjects.LIVE_EVALS,
            subjects.PROGRESS,
            _WORKERS,
            f"{subjects.CHECK_SERVICE} {subjects.GATEWAY_QUEUE}",
            f"{subjects.REPLAY_SERVICE} {subjects.GATEWAY_QUEUE}",
            f"{subjects.CANCELS} {subjects.GATEWAY_QUEUE}",
        ),
    )


def _compiler() -> Permissions:
    """Requests in, builds and artifacts out; verdicts of builds that fail."""
    return Permissions(
        publish=(
            "compile.done.>",
            "eval.done.>",
            "check.progress.>",
            "dead.compile.>",
            _WORKERS,
            _WORKERS_NOW,
            *(
                subject
                for lane in subjects.LANES
                for subject in _pull(subjects.CHECKS, subjects.compile_consumer(lane))
            ),
            *_handed_back(subjects.CHECKS),
            _VERDICT,
            f"$O.{subjects.ARTIFACTS_BUCKET}.C.>",
            _ENTRIES,
            *_read_artifacts(),
            # Whether an object is whole, and room for new ones: what is dropped is built once more.
            f"$JS.API.STREAM.INFO.{_OBJECTS}",
            f"$JS.API.STREAM.PURGE.{_OBJECTS}",
            _BUILDS_INDEX,
            f"$JS.API.DIRECT.GET.KV_{subjects.BUILDS_INDEX_BUCKET}.{_BUILDS_INDEX}",
        ),
        subscribe=(_inbox("compiler"), _WORKERS, subjects.CANCELS),
    )


def _executor() -> Permissions:
    """Builds and artifacts in, verdicts out."""
    return Permissions(
        publish=(
            "eval.done.>",
            # A check whose build is lost goes back to the compilers.
            "check.requested.>",
            f"$JS.API.DIRECT.GET.{subjects.HISTORY}.check.requested.>",
            "check.progress.>",
            "dead.execute.>",
            _WORKERS,
            *_pull(subjects.BUILDS, "*"),
            *_handed_back(subjects.BUILDS),
            _VERDICT,
            *_read_artifacts(),
        ),
        subscribe=(_inbox("executor"), subjects.CANCELS),
    )


def _orchestrator(inbox: str) -> Permissions:
    """Requests and cancellations out, verdicts in, with durable consumers of its own."""
    evals = subjects.EVALS
    return Permissions(
        publish=(
            "check.requested.>",
            subjects.CANCELS,
            subjects.CHECK_SERVICE,
            subjects.REPLAY_SERVICE,
            _VERDICT,
            _WORKERS_NOW,
            # The consumer's filter is part of the subject, and the server holds the request to it.
            f"$JS.API.CONSUMER.CREATE.{evals}.*.eval.done.>",
            f"$JS.API.CONSUMER.INFO.{evals}.*",
            *_pull(evals, "*"),
        ),
        subscribe=(inbox, "eval.done.>", subjects.LIVE_EVALS, subjects.PROGRESS, _WORKERS),
    )


def _observer() -> Permissions:
    """Verdicts, progress, workers and the length of queues; no sources, and nothing written."""
    watched = (subjects.CHECKS, subjects.BUILDS, subjects.EVALS)
    return Permissions(
        publish=(
            _VERDICT,
            f"$JS.API.DIRECT.GET.{subjects.EVALS}",
            _WORKERS_NOW,
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in watched),
            *(f"$JS.API.CONSUMER.INFO.{stream}.*" for stream in watched),
        ),
        subscribe=(_inbox("observer"), "eval.done.>", subjects.LIVE_EVALS, subjects.PROGRESS, _WORKERS),
    )


PERMISSIONS: Final[Mapping[str, Permissions]] = {
    "gateway": _gateway(),
    "compiler": _compiler(),
    "executor": _executor(),
    "orchestrator": _orchestrator(_inbox("orchestrator")),
    "observer": _observer(),
    # For people: repairing, purging, looking at everything. No process of Keck's needs it.
    "admin": Permissions(publish=(">",), subscribe=(">",)),
    ANONYMOUS: _orchestrator(_inbox(ANONYMOUS)),
}
"""Every role's permissions, `ANONYMOUS` included."""
