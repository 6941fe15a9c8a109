"""The wire: every event and record that crosses a process boundary on the bus.

Frozen msgspec structs, msgpack on the bus and JSON over HTTP. An event carries its name in ``type`` and its
version in ``v``; unknown fields are ignored, so fields may be added within a version. A field that does not
apply is null and never left out: trainers index keys. Golden files of every released version must still
decode (``tests/contract``).
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from keck.errors import BadRequest, Misaddressed
from keck.subjects import CheckKey
from keck.verdict import Verdict

__all__ = [
    "DECODING_ERRORS",
    "INLINE_SOURCE_BYTES",
    "MAX_LOG_BYTES",
    "MAX_SOURCE_BYTES",
    "BuildRecord",
    "CheckCancel",
    "CheckProgress",
    "CheckRequested",
    "CompileDone",
    "Correctness",
    "Diagnostic",
    "Digest",
    "Durations",
    "EvalDone",
    "Event",
    "EventsMs",
    "Extension",
    "Finding",
    "Flag",
    "Hashes",
    "Heartbeat",
    "Interval",
    "Isolation",
    "KernelFacts",
    "Lane",
    "Lint",
    "Name",
    "NullAnswer",
    "Options",
    "Profile",
    "Provenance",
    "RanKernel",
    "RanOperation",
    "Reading",
    "Replay",
    "ReplayProgress",
    "ReplaySource",
    "Source",
    "Stage",
    "Timing",
    "Tolerance",
    "decode",
    "decode_verdict",
    "encode",
    "new_check_id",
    "new_request",
    "progress_of",
    "to_json",
    "verdict_of",
]

MAX_SOURCE_BYTES = 384 * 1024
"""Largest candidate or reference source; two of them and the options fit one 1 MiB message."""
INLINE_SOURCE_BYTES = 64 * 1024
"""Sources up to this size travel inside ``compile.done``; larger ones go by hash."""
MAX_LOG_BYTES = 64 * 1024
"""Capped head and tail of a build log or of a candidate's output."""

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
"""`$` alone would let a line feed at the end through, and a subject is made of it."""
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
"""A run or check id: one subject token."""
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
"""A sha256 in hex. The object store's subjects are made of it."""
Lane = Literal["interactive", "bulk"]
Stage = Literal["format", "compile", "load", "correctness", "timing", "done"]
ProgressStage = Literal["queued", "format", "compile", "compiled", "load", "correctness", "timing"]
_Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86_400.0)]
_UnixTime = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
"""Seconds; neither infinite nor no number, which JSON shows as null and no client reads back."""
_Tolerance = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a check is to be done. Every default is the one the documentation names."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """``auto``: CUDA where the candidate has CUDA code or a CUDA executor is alive, else the CPU device."""
    arch: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[0-9a-zA-Z.+; ]*$(?!\n)")] = ""
    """``TORCH_CUDA_ARCH_LIST`` for this check (``"9.0"``); empty: the least loaded live executor's."""
    gpu: Annotated[str, msgspec.Meta(max_length=16, pattern=r"^([A-Za-z]*[0-9][A-Za-z0-9]*)?$(?!\n)")] = ""
    """Model of GPU to run on (``H200``); empty: any."""
    tolerance: Literal["keck", "kernelbench"] = "kernelbench"
    atol: _Tolerance | None = None
    """Absolute tolerance instead of the preset's."""
    rtol: _Tolerance | None = None
    """Relative tolerance instead of the preset's."""
    correctness_sets: Annotated[int, msgspec.Meta(ge=1, le=64)] = 5
    """Input sets drawn from secret seeds before any timing."""
    timed_calls: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    """Timed calls a side to aim for; fewer where the time budget ends first, none at 0."""
    compile_timeout_s: _Seconds | None = None
    exec_timeout_s: _Seconds | None = None
    policy: Literal["library-allowed", "custom-only"] = "library-allowed"
    baseline: Literal["eager"] = "eager"
    profile: bool = False
    """Return torch profiler tables of both sides."""


class CheckRequested(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="check.requested"):
    """A candidate to judge against a reference."""

    v: Literal[1] = 1
    check_id: Name
    run: Name = "default"
    generation: Annotated[int, msgspec.Meta(ge=0)] = 0
    lane: Lane = "bulk"
    kind: Name = "kernel"
    candidate: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE_BYTES)]
    reference: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE_BYTES)]
    options: Options = Options()
    deadline: _UnixTime
    """Absolute, Unix seconds, shared by all stages."""
    submitted_at: _UnixTime
    """Unix seconds."""
    rebuilds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often it was sent back because what had been built was lost."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Source text, inline or in the object store under its sha256."""

    sha256: Digest
    size: int
    text: str | None = None


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """One prebuilt inline extension."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$(?!\n)")]
    """The Python module name the candidate gave. A file's name is made of it."""
    call: Digest
    """Digest of the recorded ``load_inline``/``load`` call, by which the runner finds the build again."""
    artifact: Digest
    """sha256 of the shared object, its name in the object store."""
    size: int


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One compiler message."""

    file: str
    line: int
    column: int
    severity: Literal["error", "warning", "note"]
    text: str


class KernelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ptxas said of one kernel."""

    kernel: str
    arch: str
    registers: int
    shared_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the candidate's extensions were built."""

    recipe: Literal["fast", "stock", "none"] = "none"
    """``stock`` where any of several extensions was."""
    fallback: str = ""
    """Why the stock recipe had to answer for the fast one; empty where it did not, or is not in use."""
    cache: Literal["hit", "miss", "none"] = "none"
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    arch: str = ""
    toolchain: dict[str, str] = {}
    diagnostics: list[Diagnostic] = []
    ptxas: list[KernelFacts] = []


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the candidate's text that a reader should look at; it proves nothing by itself."""

    code: Annotated[str, msgspec.Meta(max_length=64)]
    """Of :mod:`keck.flag_codes`."""
    file: Annotated[str, msgspec.Meta(max_length=160)]
    line: int
    snippet: Annotated[str, msgspec.Meta(max_length=200)]


_Names = Annotated[list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=128)]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidate's text shows without being run."""

    findings: Annotated[list[Finding], msgspec.Meta(max_length=128)] = []
    kernels: _Names = []
    """Names of the ``__global__`` functions it defines."""
    triton: _Names = []
    """Names of its Triton kernels."""
    namespaces: _Names = []
    """Of operators that it registers with ``TORCH_LIBRARY``."""
    library_calls: _Names = []
    """Functions of cuBLAS, cuDNN and the like that it calls."""


class CompileDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="compile.done"):
    """A candidate that is ready to run: all that judging needs, since the request is consumed by now."""

    v: Literal[1] = 1
    check_id: Name
    run: Name
    generation: int
    lane: Lane
    kind: Name
    target: Name
    """The executors that may take it: ``cpu``, ``cuda-any``, ``sm90``, ``gpu-h200`` (:mod:`keck.targets`)."""
    candidate: Source
    reference: Source
    options: Options
    deadline: _UnixTime
    submitted_at: _UnixTime
    compiled_at: _UnixTime
    """Unix seconds."""
    compile_s: float
    attempts: int = 1
    extensions: list[Extension] = []
    build: BuildRecord = BuildRecord()
    reading: Reading = Reading()
    rebuilds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """As in the request."""


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """``|candidate - reference| <= atol + rtol * |reference|``, element by element."""

    atol: float
    rtol: float


class Correctness(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of outputs found, over every call that was checked."""

    calls_checked: int
    max_abs_err: float
    max_rel_err: float
    mismatched: int
    """Elements outside the tolerance."""
    total: int
    """Elements compared."""
    tolerance: Tolerance
    weights: Literal["copied", "seeded", "none"]
    comparison: Literal["tolerance", "scaled", "accept_output"] = "tolerance"
    """``scaled``: an answer that computes nothing passes the tolerance, so errors count against the spread of at least
    one output."""
    oracle: Literal["fp64", "fp32"] = "fp32"
    """What the reference's own error is known from: a run in double precision, or only itself."""


class NullAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that computes nothing, tried in the place of one output of a candidate."""

    output: int
    """Which output of the reference's, from 0."""
    answer: str
    """``zeros``, ``constant`` (the best one for all input sets), ``another_set`` (the answer for other inputs),
    ``input N`` (the N-th input tensor itself), or ``bf16_operands`` (the reference on rounded inputs, which does
    compute: told only)."""
    passes: bool
    """Under the tolerance, on every input set looked at."""
    passes_scaled: bool | None = None
    """Under the scale-aware comparison; null where that was not needed, or has no meaning (integers)."""
    passes_stress: bool | None = None
    """On the task's own stress sets besides; null where it has none, or that was not needed."""
    max_abs_err: float
    """Largest error, as far as was looked: whatever is refuted early is not looked at further."""
    of_allowed: float | None = None
    """Largest error in parts of what the tolerance allows at that element; above 1 fails. Null where the task decides."""


class Lint(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference is worth as a task: whether an answer that computes nothing would be found out."""

    weak: bool
    """Some null answer passes whatever comparison there is."""
    comparison: Literal["tolerance", "scaled", "accept_output"]
    answers: list[NullAnswer]
    repeat_max_abs_err: float
    """Between two calls on the same inputs; 0: the same to the last bit."""
    stress_inputs: bool | None
    """Whether the reference defines ``get_stress_inputs``; null where nobody needed to know."""
    oracle: Literal["fp64", "fp32"]
    own_rms_err: float | None
    """Error of the reference's worst slice in parts of its root mean square, by that oracle; null: not known."""
    sets: int
    """Input sets looked at."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median with its 95 % confidence interval, in milliseconds, from `n` calls."""

    median: float
    ci95: tuple[float, float]
    n: int


class EventsMs(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds a call by the runner's own device events: a second opinion, never the score."""

    candidate: float
    reference: float


class AloneMs(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds of a call that had the device to itself, by the judge's clock."""

    candidate: float
    reference: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long both sides took, by the judge's clock."""

    device: Literal["cuda", "cpu"]
    batch: Literal["burst", "single"]
    candidate_ms: Interval
    reference_ms: Interval
    events_ms: EventsMs | None
    baseline: str
    uncertainty_ms: float
    """What any trick at the edges of a call could gain, per call."""
    speedup: float
    speedup_lower: float
    clock: Literal["outside"] = "outside"
    noise: float
    """Spread of the candidate's times: interquartile range over median."""
    alone_ms: AloneMs | None = None
    """Measured where calls are enqueued together and the candidate gains: what one of them takes by itself."""
    charged_ms: float | None = None
    """What the speedup is computed from in the place of the candidate's median, where single calls take much longer."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that the caller's policy may act on."""

    code: str
    severity: Literal["info", "warn", "reject"]
    evidence: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """torch profiler tables of one call of each side."""

    torch: str
    cuda: str


class RanKernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel seen on the device while `forward` ran once."""

    name: str
    count: int
    total_us: float
    origin: Literal["own", "triton", "library", "aten", "inductor", "unknown"]
    launched_by: str = ""
    """The operator during which it was launched (``aten::mm``); empty: none, as where an extension launches it."""


class RanOperation(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of torch's, or a function of the candidate's own extension, seen while `forward` ran once."""

    name: str
    count: int
    total_us: float
    """Its own time on the CPU, without that of others it called."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Whose code did the work: what one call of `forward` ran, and what reading the text found.

    What ran is told by a profiler in the candidate's own process, so it can add a suspicion and never take one away.
    """

    device: Literal["cuda", "cpu"]
    state: Literal["traced", "unavailable", "not_asked"]
    why: str = ""
    """Why there is no trace."""
    kernels: list[RanKernel] = []
    operations: list[RanOperation] = []
    """Of torch, and of other operator libraries."""
    own_calls: list[RanOperation] = []
    """Functions and operators of the candidate's own extensions."""
    defines: list[str] = []
    """Kernels and extensions of its own that the candidate has."""
    findings: list[Finding] = []


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a check went, in seconds."""

    queued: float = 0.0
    compile: float = 0.0
    gpu_held: float = 0.0
    total: float = 0.0


class Hashes(msgspec.Struct, frozen=True, kw_only=True):
    """sha256 of what was judged."""

    candidate: str
    reference: str
    artifact: str
    """Of the first extension's shared object; of all of them joined where there are several; else empty."""


class EvalDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="eval.done"):
    """The terminal verdict of one generation of one check."""

    v: Literal[1] = 1
    check_id: Name
    run: Name
    generation: int
    kind: Name
    verdict: Verdict
    stage: Stage
    """The furthest stage reached."""
    valid: bool
    mask_sample: bool
    failure_kind: str
    """Names an infrastructure failure (``worker_lost``, ``artifact_missing`` …); empty otherwise."""
    message: str
    """One line for people."""
    log: str
    """Head and tail of what the build or the candidate printed."""
    compiled: bool | None
    correct: bool | None
    correctness: Correctness | None
    timing: Timing | None
    flags: list[Flag]
    profile: Profile | None
    durations_s: Durations
    attempts: int
    seeds: str
    """Hex of the secret master seed, revealed with the verdict."""
    options: Options
    build: BuildRecord
    hashes: Hashes
    environment: dict[str, str | float | None]
    provenance: Provenance | None = None
    """Whose code did the work; null where the candidate was never judged."""
    lint: Lint | None = None
    """With kind ``lint``."""
    rescored_from: int | None = None
    """The generation whose verdict this one was computed from, without a device; null: this one was judged."""


class CheckCancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="check.cancel"):
    """Nobody wants the verdict of this check any more. Core NATS only: heard by whoever is there."""

    v: Literal[1] = 1
    check_id: Name
    run: Name = "default"
    generation: Annotated[int, msgspec.Meta(ge=0)] = 0
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """One line for people, which the verdict repeats."""


class CheckProgress(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="check.progress"):
    """Where a check is. Core NATS only: never stored, may be missed."""

    v: Literal[1] = 1
    check_id: Name
    run: Name
    generation: int
    stage: ProgressStage
    message: str
    at: _UnixTime
    """Unix seconds."""
    worker: str = ""
    target: str = ""
    """With stage ``compiled``: the executors that may take it."""


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker contains what it runs: the tier in force (docs/sandbox.md) and what was probed of it."""

    level: Literal["A", "A-", "B", "C", "X"]
    user: Literal["own", "service"]
    """Whether cells run as users that nothing else has, or as the service's."""
    landlock: int
    """Version of the kernel's Landlock; 0: none."""
    properties: dict[str, str] = {}
    """``ok``, or what is open, for each property that was attacked."""
    failed: list[str] = []
    """What stood in the way of each stronger tier."""
    probes: int = 0
    """How many attacks were tried when the worker started, and held."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="worker.heartbeat"):
    """A worker says that it lives, every few seconds, in the ``workers`` bucket."""

    v: Literal[1] = 1
    worker: Name
    role: Literal["gateway", "compiler", "executor"]
    host: str
    pid: int
    version: str
    started_at: _UnixTime
    at: _UnixTime
    slots: int
    """Jobs this worker takes at once."""
    busy: int
    cpus: int = 0
    target: str = ""
    """Executors: the device kind they serve (``cpu``, ``sm90``)."""
    arch: str = ""
    """Executors: ``TORCH_CUDA_ARCH_LIST`` form (``9.0``); empty on the CPU device."""
    state: Literal["ready", "quarantined", "draining"] = "ready"
    facts: dict[str, str | float | None] = {}
    """Device name, UUID, driver, torch, CUDA, memory: what `keck doctor` and the verdict show."""
    isolation: Isolation | None = None
    """Compilers and executors."""


ReplaySource = Literal["eval.done", "compile.done", "check.requested"]


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Do checks again, each as a new generation of its own: which ones, from which event on, and how fast.

    What is left empty selects everything. A check is taken if all that is given fits it.
    """

    source: ReplaySource
    """``eval.done``: score stored verdicts under another policy. ``compile.done``: judge stored builds again.
    ``check.requested``: do everything again."""
    run: Name | None = None
    check_ids: Annotated[list[Name], msgspec.Meta(max_length=10_000)] = []
    """Of `run`, or of the run ``default`` where that is null."""
    verdicts: Annotated[list[Verdict], msgspec.Meta(max_length=32)] = []
    """Only checks that ended so."""
    since: _UnixTime | None = None
    """Stored at this moment or later, Unix seconds by the server's clock."""
    until: _UnixTime | None = None
    """Stored before this moment."""
    first_sequence: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Of the stream that the events lie in: EVALS for ``eval.done``, else HISTORY."""
    last_sequence: Annotated[int, msgspec.Meta(ge=1)] | None = None
    generation: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The generation that is taken."""
    to_generation: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The generation that is made; null: the first that no check of the run has a verdict of. To go on with a
    replay that was interrupted, name its own: what it made is not made again."""
    options: dict[str, str | int | float | bool | None] = {}
    """Options that are to differ from the stored ones, by name."""
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    """Checks a second, at most; null: as fast as live work leaves room for."""
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Checks to do again, at most."""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)] = 3600.0
    """Of each check that is done again, from the moment it is queued."""


class ReplayProgress(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="replay.progress"):
    """How far a replay is; the last one has `finished` or `error`."""

    v: Literal[1] = 1
    generation: int
    """The one that is made."""
    read: int
    """Events looked at."""
    made: int
    """Checks of the new generation stored: verdicts, or work that was queued."""
    known: int
    """Checks that had this generation already."""
    unreadable: int
    """Events that could not be read, and checks that cannot be done again."""
    last_sequence: int
    """Up to here everything has been dealt with; with `check_ids`, where it began."""
    changed: dict[str, int] = {}
    """With ``eval.done``: how many verdicts became others, by ``passed > hack_detected`` and the like."""
    finished: bool = False
    error: str = ""
    """Why it ended early."""


Event = CheckRequested | CompileDone | EvalDone | CheckCancel | CheckProgress | Heartbeat | ReplayProgress

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)
_json_encoder = msgspec.json.Encoder()
DECODING_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on bytes of any kind; the last two, on bad text and deep nesting, are none of its own."""
_MAX_REASON: Final = 500
_E = TypeVar(
    "_E",
    CheckRequested,
    CompileDone,
    EvalDone,
    CheckCancel,
    CheckProgress,
    Heartbeat,
    ReplayProgress,
)


def encode(event: Event) -> bytes:
    """The event as it goes on the bus."""
    return _encoder.encode(event)


def decode(data: bytes, expect: type[_E]) -> _E:
    """Read an event of the expected type.

    Raises:
        BadRequest: the bytes are no such event; the message names the field that is wrong.
    """
    try:
        event = _decoder.decode(data)
    except DECODING_ERRORS as error:
        # It may quote a value of the event's, of whatever length.
        raise BadRequest(f"not a valid {_tag(expect)} event: {str(error)[:_MAX_REASON]}") from error
    if not isinstance(event, expect):
        raise BadRequest(f"expected a {_tag(expect)} event, got {_tag(type(event))}")
    return event


def decode_verdict(data: bytes, *, of: CheckKey) -> EvalDone:
    """Read the verdict that stands on a check's subject.

    Raises:
        Misaddressed: it is another check's. The server looks at subjects only, and whoever may ask it for a
            message may have the answer sent to any subject.
        BadRequest: the bytes are no verdict.
    """
    event = decode(data, EvalDone)
    named = CheckKey.of(event)
    if named != of:
        raise Misaddressed(f"the verdict on the subject of {of} is that of {named}")
    return event


def to_json(value: Any) -> bytes:
    """A struct or a plain value as JSON."""
    return _json_encoder.encode(value)


def _tag(event: type[Any]) -> str:
    return str(event.__struct_config__.tag)


def new_check_id() -> str:
    """A fresh check id: sortable by time, one subject token."""
    return f"{time.time_ns() // 1_000_000:011x}{uuid.uuid4().hex[:13]}"


def new_request(
    candidate: str,
    reference: str,
    *,
    check_id: str = "",
    run: str = "default",
    generation: int = 0,
    lane: Lane = "bulk",
    kind: str = "kernel",
    options: Options | None = None,
    deadline_s: float = 3600.0,
) -> CheckRequested:
    """A request with its id and absolute deadline filled in.

    Raises:
        BadRequest: a source is too large, or an id, an option or the deadline is out of its bounds.
    """
    for side, text in (("candidate", candidate), ("reference", reference)):
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            raise BadRequest(f"the {side} has {size} bytes; at most {MAX_SOURCE_BYTES} are taken")
    now = time.time()
    if not 0 < deadline_s <= 7 * 86_400:
        raise BadRequest("deadline_s must be above 0 and at most 7 days")
    request = CheckRequested(
        check_id=check_id or new_check_id(),
        run=run,
        generation=generation,
        lane=lane,
        kind=kind,
        candidate=candidate,
        reference=reference,
        options=options or Options(),
        deadline=now + deadline_s,
        submitted_at=now,
    )
    try:
        # Constraints are checked on decoding, so that a bad id is refused here and not by a worker.
        return decode(encode(request), CheckRequested)
    except UnicodeEncodeError as error:
        raise BadRequest("sources must be valid Unicode text (a lone surrogate was found)") from error


def progress_of(
    event: CheckRequested | CompileDone,
    stage: ProgressStage,
    message: str,
    *,
    worker: str = "",
    target: str = "",
) -> CheckProgress:
    """How far a check is, as of now."""
    return CheckProgress(
        check_id=event.check_id,
        run=event.run,
        generation=event.generation,
        stage=stage,
        message=message,
        at=time.time(),
        worker=worker,
        target=target,
    )


def verdict_of(
    request: CheckRequested | CompileDone,
    verdict: Verdict,
    *,
    stage: Stage,
    message: str,
    failure_kind: str = "",
    log: str = "",
    correct: bool | None = None,
    correctness: Correctness | None = None,
    timing: Timing | None = None,
    flags: list[Flag] | None = None,
    profile: Profile | None = None,
    durations_s: Durations | None = None,
    attempts: int = 1,
    seeds: str = "",
    build: BuildRecord | None = None,
    hashes: Hashes | None = None,
    environment: dict[str, str | float | None] | None = None,
    provenance: Provenance | None = None,
    lint: Lint | None = None,
) -> EvalDone:
    """The terminal event for a check, with what follows from the verdict filled in."""
    standing = verdict.standing
    known_build = request.build if isinstance(request, CompileDone) else BuildRecord()
    return EvalDone(
        check_id=request.check_id,
        run=request.run,
        generation=request.generation,
        kind=request.kind,
        verdict=verdict,
        stage=stage,
        valid=standing.valid,
        mask_sample=standing.mask_sample,
        failure_kind=failure_kind,
        message=message,
        log=log,
        compiled=standing.compiled,
        correct=True if standing.passed else correct,
        correctness=correctness,
        timing=timing,
        flags=flags or [],
        profile=profile,
        durations_s=durations_s or Durations(total=max(0.0, time.time() - request.submitted_at)),
        attempts=attempts,
        seeds=seeds,
        options=request.options,
        build=build or known_build,
        hashes=hashes or Hashes(candidate="", reference="", artifact=""),
        environment=environment or {},
        provenance=provenance,
        lint=lint,
    )
