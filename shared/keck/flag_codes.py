"""Every code a flag can have: what it means, and how heavy it is under each policy.

``docs/flags.md`` is written from this table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["CODES", "PolicyName", "Severity", "severity_of"]

Severity = Literal["info", "warn", "reject"]
PolicyName = Literal["library-allowed", "custom-only"]


class _Code(NamedTuple):
    meaning: str
    library_allowed: Severity
    custom_only: Severity
    """At most: what only the text suggests is always `info`."""
    by_policy: bool = True
    """Decided by :mod:`keck.policy` from what the verdict stores, and so again when it is scored again."""


CODES: dict[str, _Code] = {
    "provenance.no_own_kernel": _Code(
        "No kernel, operator or extension function of the candidate's own ran during `forward`.",
        "info",
        "reject",
    ),
    "provenance.unavailable": _Code(
        "What ran could not be seen: the traced call failed, took too long, or the device shows no kernels.",
        "info",
        "warn",
    ),
    "provenance.decoy_kernel": _Code(
        "The candidate has a kernel of its own, and it did not run, did next to nothing, or, by the text alone, "
        "seems never to be launched.",
        "warn",
        "warn",
    ),
    "delegation.aten": _Code(
        "PyTorch's own operators computed; a reject only where they did most of the work.", "info", "reject"
    ),
    "delegation.library": _Code(
        "cuBLAS, cuDNN, CUTLASS or another library computed; a reject only where others' code did most of the work.",
        "info",
        "reject",
    ),
    "delegation.torch_compile": _Code(
        "Kernels that `torch.compile` or `torch.jit` generated ran, or, by the text alone, it is called.",
        "info",
        "reject",
    ),
    "fallback.try_except": _Code(
        "By the text, an error of the candidate's kernel is caught and PyTorch computes instead.",
        "info",
        "info",
    ),
    "precision.low_types": _Code(
        "By the text, the candidate computes in types of less precision than any that the reference names.",
        "info",
        "info",
    ),
    "reference.imported": _Code(
        "By the text, the candidate imports the reference or inherits from it; there is none where it runs.",
        "info",
        "info",
    ),
    "introspection": _Code(
        "By the text, the candidate looks at or changes what is around it: frames, the garbage collector, "
        "`sys.modules`, torch's attributes, the environment, other programs; or it hides what it names.",
        "info",
        "info",
    ),
    "precision_lowered": _Code(
        "An output is further from the exact result than the reference's own rounding allows for, within the tolerance.",
        "warn",
        "warn",
        by_policy=False,
    ),
    "weak_task": _Code(
        "The task's fault: an answer that computes nothing passes it.",
        "warn",
        "warn",
        by_policy=False,
    ),
    "timing.single_calls": _Code(
        "`forward` waits for its own results, so both sides were timed call by call.",
        "info",
        "info",
        by_policy=False,
    ),
    "timing.clocks_disagree": _Code(
        "The judge's clock, which counts, and events in the candidate's process differ.",
        "warn",
        "warn",
        by_policy=False,
    ),
    "timing.calls_merged": _Code(
        "Calls that are enqueued together take much less each than a call alone: the speedup is computed from the latter.",
        "warn",
        "warn",
        by_policy=False,
    ),
    "timing.short_calls": _Code(
        "Calls of less than 3 microseconds each, enqueued together: as much is charged.",
        "info",
        "info",
        by_policy=False,
    ),
    "timing.reference_slowed": _Code(
        "The reference was faster once the candidate was gone: that time counts.",
        "warn",
        "warn",
        by_policy=False,
    ),
    "timing.device_busy": _Code(
        "Before most bursts the GPU was not idle when it should have been.", "info", "info", by_policy=False
    ),
    "timing.measured_again": _Code(
        "A first measurement could not be right, was not confirmed by other runners, and was discarded.",
        "info",
        "info",
        by_policy=False,
    ),
    "timing.faster_than_memory": _Code(
        "Faster than the device can move the bytes that matter, shown by two pairs of runners.",
        "reject",
        "reject",
        by_policy=False,
    ),
}


def severity_of(code: str, policy: PolicyName, *, at_most: Severity = "reject") -> Severity:
    """How heavy a finding is under a policy.

    Args:
        code: one of `CODES`.
        policy: the caller's.
        at_most: what the evidence bears.
    """
    known = CODES[code]
    asked = known.custom_only if policy == "custom-only" else known.library_allowed
    return min(asked, at_most, key=_ORDER.index)


_ORDER: tuple[Severity, ...] = ("info", "warn", "reject")
