"""What executor and judge say to each other: both trusted, so these are msgspec structs over a socket."""

from __future__ import annotations

import msgspec

from keck.messages import Correctness, Flag, Lint, Options, Profile, Stage, Timing
from keck.verdict import Verdict

__all__ = ["Hello", "Job", "Outcome", "Phase", "decode_from_judge"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One check to judge; the two runners' sockets come along as descriptors, candidate first."""

    serial: int
    options: Options
    candidate_classes: tuple[str, ...]
    reference_names: tuple[str, ...]
    candidate_path: str
    reference_path: str
    extensions: list[tuple[str, str, str]]
    """Digest of the call, module name, path of the shared object."""
    candidate_pid: int
    reference_pid: int
    exec_timeout_s: float
    reference_timeout_s: float
    scrub: bool = False
    """Overwrite the device's free memory first: the driver does not clear what others left in it."""
    lint: bool = False
    """The candidate is the reference itself: it too is called with TF32 off, or torch's own default for convolutions
    could have a task fail at its own tolerance."""
    reference_hash: str = ""
    """sha256 of the reference's source, under which what the lint finds is kept; empty: not kept."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The judge is ready; what it found of its device."""

    facts: dict[str, str | float | None]


class Phase(msgspec.Struct, frozen=True, kw_only=True, tag="phase"):
    """A stage of the job in hand begins."""

    serial: int
    stage: Stage
    message: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """The end of a job. `verdict` None: the judge itself could not do it (`message` says why)."""

    serial: int
    verdict: Verdict | None
    stage: Stage
    message: str
    ended: str = ""
    """Which runner's process was found gone: ``candidate``, ``reference`` or empty."""
    detail: str = ""
    """Traceback of user code, capped."""
    correct: bool | None = None
    correctness: Correctness | None = None
    timing: Timing | None = None
    flags: list[Flag] = []
    profile: Profile | None = None
    lint: Lint | None = None
    seeds: str = ""
    held_s: float = 0.0
    phases_s: dict[str, float] = {}
    suspicion: str = ""
    """A pass whose time is below what the device can do: evidence, to be confirmed by other runners."""
    device: dict[str, str | float | None] = {}
    """Clock, temperature and throttling at the end."""


_from_judge = msgspec.msgpack.Decoder(Hello | Phase | Outcome)


def decode_from_judge(data: bytes) -> Hello | Phase | Outcome:
    """A message of the judge's."""
    message: Hello | Phase | Outcome = _from_judge.decode(data)
    return message
