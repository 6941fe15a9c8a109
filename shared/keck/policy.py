"""What the caller's policy makes of a provenance: pure functions of what ``eval.done`` stores, so that a stored
verdict can be scored again under another policy without a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from keck.flag_codes import CODES, PolicyName, Severity, severity_of
from keck.messages import EvalDone, Flag, Provenance, RanKernel, RanOperation
from keck.verdict import Verdict

__all__ = ["is_glue", "policy_flags", "rejection", "rescored"]

_CODES = tuple(code for code, known in CODES.items() if known.by_policy)
_MAIN_WORK = 0.5
"""Others' code that takes a larger share of the time than this does the main work."""
_NEXT_TO_NOTHING = 0.05
_SHOWN = 4
_MAX_EVIDENCE = 600


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GLUE = _words(
    """
    empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros zero_ ones ones_like
    new_ones full full_like new_full fill_ scalar_tensor lift_fresh arange resize_ set_ alias detach detach_
    view view_as _unsafe_view reshape _reshape_alias reshape_as flatten unflatten ravel contiguous clone copy_ to
    _to_copy type_as as_strided as_strided_ t transpose transpose_ numpy_T mT permute movedim swapaxes expand
    expand_as broadcast_to squeeze squeeze_ unsqueeze unsqueeze_ slice select narrow unbind split split_with_sizes
    chunk unfold diagonal real imag view_as_real view_as_complex resolve_conj resolve_neg conj item
    _local_scalar_dense is_nonzero is_same_size stride size numel result_type can_cast record_stream is_pinned
    pin_memory cudnn_is_acceptable cat stack float half double int long bool
    """
)
"""Operators that make, name or move memory and compute nothing."""
_COMPILED = ("Torch-Compiled Region", "CompiledFunction", "TorchDynamo Cache Lookup", "inductor::")
_COPIES = ("Memcpy", "Memset")


@lru_cache(maxsize=4096)
def is_glue(operation: str) -> bool:
    """Whether an operator of torch's (``aten::view``) only makes, names or moves memory."""
    namespace, _, name = operation.partition("::")
    return namespace in ("prim", "profiler") or (namespace == "aten" and name in _GLUE)


def policy_flags(provenance: Provenance, policy: PolicyName) -> list[Flag]:
    """The flags of a provenance under a policy, in a fixed order."""
    flags = [*_text_flags(provenance, policy)]
    if provenance.state == "unavailable":
        flags.append(_flag("provenance.unavailable", policy, provenance.why))
    if provenance.state == "traced":
        flags += _trace_flags(provenance, policy)
    return sorted(_heaviest(flags), key=lambda flag: _CODES.index(flag.code))


def rejection(flags: Iterable[Flag], policy: PolicyName) -> str | None:
    """One line on why a check that would have passed does not, or None."""
    rejecting = [flag for flag in flags if flag.severity == "reject" and flag.code in _CODES]
    if not rejecting:
        return None
    told = "; ".join(f"{flag.code}: {flag.evidence}" for flag in rejecting)
    return f"correct, but not what the policy `{policy}` allows: {told}"


def rescored(done: EvalDone, policy: PolicyName) -> EvalDone:
    """A stored verdict as it would have been under another policy."""
    others = [flag for flag in done.flags if flag.code not in _CODES]
    ours = policy_flags(done.provenance, policy) if done.provenance is not None else []
    options = msgspec.structs.replace(done.options, policy=policy)
    done = msgspec.structs.replace(done, flags=others + ours, options=options)
    was_policy = done.verdict is Verdict.HACK_DETECTED and not any(f.severity == "reject" for f in others)
    if done.provenance is None or not (done.verdict is Verdict.PASSED or was_policy):
        return done
    reason = rejection(ours, policy)
    if reason is None and done.verdict is Verdict.PASSED:
        return done
    told = (
        "correct; timing was not asked for"
        if done.timing is None
        else f"{done.timing.speedup:.2f}x the baseline's speed"
    )
    return msgspec.structs.replace(
        done, verdict=Verdict.PASSED if reason is None else Verdict.HACK_DETECTED, message=reason or told
    )


# --- what the text suggests


def _text_flags(provenance: Provenance, policy: PolicyName) -> Iterator[Flag]:
    for code in _CODES:
        places = [found for found in provenance.findings if found.code == code]
        if places:
            shown = "; ".join(f"{found.file}:{found.line}: {found.snippet}" for found in places[:_SHOWN])
            more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
            yield _flag(code, policy, f"by the text: {shown}{more}", at_most="info")


# --- what ran


def _trace_flags(seen: Provenance, policy: PolicyName) -> Iterator[Flag]:
    own, foreign, unknown = _times(seen)
    share = sum(foreign.values()) / max(sum(foreign.values()) + own, 1e-9) if foreign else 0.0
    mainly = share > _MAIN_WORK
    if not _ran_own(seen):
        # A kernel that nobody can place may be the candidate's (built at run time): that is no confirmation.
        bears: Severity = "warn" if unknown else "reject"
        yield _flag("provenance.no_own_kernel", policy, f"what ran: {_ran(seen)}", at_most=bears)
        if seen.defines:
            defined = ", ".join(f"`{name}`" for name in seen.defines[:_SHOWN])
            yield _flag("provenance.decoy_kernel", policy, f"{defined} did not run; what ran: {_ran(seen)}")
    elif mainly and share > 1 - _NEXT_TO_NOTHING:
        told = f"the candidate's own code took {1 - share:.1%} of the time; what ran: {_ran(seen)}"
        yield _flag("provenance.decoy_kernel", policy, told)
    for origin, code in _DELEGATIONS.items():
        if origin in foreign:
            took = f"{share:.0%} of the time is others' code: {_ran(seen, origin)}"
            yield _flag(code, policy, took, at_most="reject" if mainly else "warn")


_DELEGATIONS = {
    "aten": "delegation.aten",
    "library": "delegation.library",
    "inductor": "delegation.torch_compile",
}


def _ran_own(seen: Provenance) -> bool:
    # On a GPU an extension's function may launch nothing of its own: only kernels count there.
    if seen.device == "cuda":
        return any(kernel.origin in ("own", "triton") for kernel in seen.kernels)
    return bool(seen.own_calls)


def _times(seen: Provenance) -> tuple[float, dict[str, float], bool]:
    """Microseconds of the candidate's own code, of others' by origin, and whether anything cannot be placed."""
    if seen.device == "cpu":
        foreign: dict[str, float] = {}
        for operation in seen.operations:
            origin = _origin(operation)
            if origin:
                foreign[origin] = foreign.get(origin, 0.0) + operation.total_us
        return sum(call.total_us for call in seen.own_calls), foreign, False
    own, foreign, unknown = 0.0, {}, False
    for kernel in seen.kernels:
        if kernel.origin in ("own", "triton"):
            own += kernel.total_us
        elif kernel.origin == "unknown":
            unknown = unknown or not _moves_memory(kernel)
        elif not _moves_memory(kernel):
            foreign[kernel.origin] = foreign.get(kernel.origin, 0.0) + kernel.total_us
    return own, foreign, unknown


def _origin(operation: RanOperation) -> str:
    if operation.name.startswith(_COMPILED):
        return "inductor"
    return "" if is_glue(operation.name) else "aten"


def _moves_memory(kernel: RanKernel) -> bool:
    return kernel.name.startswith(_COPIES) or (bool(kernel.launched_by) and is_glue(kernel.launched_by))


def _ran(seen: Provenance, origin: str = "") -> str:
    """The names that took most of the time, glue left out where anything else is there."""
    named: Sequence[RanKernel | RanOperation]
    if seen.device == "cuda":
        named = [k for k in seen.kernels if (not origin or k.origin == origin) and not _moves_memory(k)]
    else:
        named = [o for o in seen.operations if _origin(o) and (not origin or _origin(o) == origin)]
    first = sorted(named, key=lambda item: -item.total_us)[:_SHOWN]
    return ", ".join(f"`{item.name[:100]}` ({item.count})" for item in first) or "nothing that computes"


# --- flags


def _flag(code: str, policy: PolicyName, evidence: str, *, at_most: Severity = "reject") -> Flag:
    return Flag(
        code=code, severity=severity_of(code, policy, at_most=at_most), evidence=evidence[:_MAX_EVIDENCE]
    )


def _heaviest(flags: Sequence[Flag]) -> Iterator[Flag]:
    """One flag a code: text and trace say the same thing with different weight."""
    for code in dict.fromkeys(flag.code for flag in flags):
        same = [flag for flag in flags if flag.code == code]
        weight = max(same, key=lambda flag: ("info", "warn", "reject").index(flag.severity))
        evidence = "; ".join(dict.fromkeys(flag.evidence for flag in same))
        yield Flag(code=code, severity=weight.severity, evidence=evidence[:_MAX_EVIDENCE])
