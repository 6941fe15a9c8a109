"""What callers send and what they get back, apart from verdicts: the structs the OpenAPI document shows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from keck.errors import BadRequest
from keck.messages import CheckProgress, Lane, Name, Options, Replay
from keck.subjects import CheckKey

__all__ = [
    "MAX_WAIT_S",
    "Accepted",
    "CheckBody",
    "CheckOptions",
    "CheckState",
    "Health",
    "LegacyAnswer",
    "Links",
    "QueuePlace",
    "ReplayBody",
    "Resources",
    "SpeedReport",
    "State",
    "TorchProfile",
    "links_of",
    "require_name",
]

MAX_WAIT_S = 3600.0
"""Longest that one HTTP request waits for a verdict; a longer ``?wait=`` is cut to it."""

State = Literal["queued", "building", "built", "running"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CheckOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a check; a name that is not listed is refused, so that a typing error is not judged by."""


class CheckBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate to judge against a reference."""

    candidate: str
    reference: str
    kind: str = "kernel"
    run: Name = "default"
    check_id: Name | None = None
    """Your own id, which makes the call safe to repeat; without one a fresh id is made."""
    lane: Lane | None = None
    """Default: interactive for a call that waits, bulk for one that does not."""
    options: CheckOptions = CheckOptions()
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)] | None = None
    """Seconds from now after which nobody wants the verdict any more."""


class ReplayBody(Replay, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which checks to do again, from which event on, and how."""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask about a check."""

    self: str
    events: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A check that is stored on the bus and will be judged."""

    check_id: str
    run: str
    generation: int
    links: Links


class CheckState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="check.state"):
    """Where a check is that has no verdict yet."""

    check_id: str
    run: str
    generation: int
    state: State
    queue_position: int | None
    """How many checks may be served first (an upper bound); null once a worker holds it."""
    progress: CheckProgress | None
    """The last that a worker said of it, if this gateway heard anything."""
    links: Links


class QueuePlace(CheckProgress, frozen=True, kw_only=True, tag_field="type", tag="check.progress"):
    """Progress of a check that waits in a queue, with its place there; made by the gateway, for event streams."""

    queue_position: int | None


class TorchProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Profiler tables of both sides, as the original service named them."""

    torch: str
    cuda: str


class SpeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the original service says of a candidate that passed; times in seconds."""

    torch_profile: TorchProfile | None
    torch_time: float | None
    cuda_time: float | None
    speedup: float | None


class LegacyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The original service's answer."""

    formated: bool
    compiled: bool
    passed: bool
    msg: SpeedReport | str
    """The times on success; on failure a text that begins with ``failed:``."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Compilers' CPU cores and CUDA executors."""

    CPU: int
    GPU: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What lives, by the heartbeats of the last seconds."""

    nats_connected: bool
    ray_initialized: bool
    """Kept for callers of the original: the same as `nats_connected`."""
    cluster_resources: Resources
    available_resources: Resources
    isolation: dict[str, str] = {}
    """Each compiler's and executor's tier (docs/sandbox.md), by worker."""


def links_of(key: CheckKey) -> Links:
    """The addresses of one generation of one check."""
    query = f"run={key.run}&generation={key.generation}"
    path = f"/v1/checks/{key.check_id}"
    return Links(self=f"{path}?{query}", events=f"{path}/events?{query}")


def require_name(value: str, *, what: str) -> str:
    """The value, if it may be one token of a subject.

    Raises:
        BadRequest: it may not. Said here as well as in the wire types, since a subject is made of it, and a
            pattern's ``$`` lets a line feed at the end through.
    """
    if not _NAME.fullmatch(value):
        raise BadRequest(f"{what} must match [A-Za-z0-9_-]{{1,64}}")
    return value
