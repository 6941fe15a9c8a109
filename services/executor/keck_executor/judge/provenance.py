"""Whose code did the work: one traced call of the candidate's `forward`, after everything that decides the verdict.

The candidate's process takes the trace, so what it says is bounded, checked for form and used against the candidate
only; whatever goes wrong in this pass changes no verdict.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from keck.messages import Provenance, RanOperation
from keck_executor.judge.failure import Failed
from keck_executor.judge.inputs import InputSet
from keck_executor.judge.job import Job
from keck_executor.judge.kernel_origin import ran_kernels
from keck_executor.judge.link import BrokenProtocol, OutOfBudget, RunnerGone
from keck_executor.judge.outputs import Expected
from keck_executor.judge.side import CheckedSide, SingleCall
from keck_executor.runner.trace_lines import TraceLine, unpack_trace
from keck_executor.runner.wire import ProtocolError

__all__ = ["asks_for_trace", "provenance_of", "unjudged_provenance"]

_TRACE_S = 10.0
"""For the one call; the device is held meanwhile. The first use of CUPTI takes seconds of it."""
_ASKING = frozenset({"provenance.decoy_kernel", "fallback.try_except", "delegation.torch_compile"})
"""Findings in the text that claim one thing and may do another: a trace tells which."""

Check = Callable[[SingleCall, Expected], None]


def asks_for_trace(job: Job) -> bool:
    """Whether seeing what ran is worth the time: the policy needs it, a finding asks, or a profiler runs anyway."""
    asked = job.options.policy == "custom-only" or job.options.profile
    return asked or any(found.code in _ASKING for found in job.reading.findings)


def unjudged_provenance(job: Job, device: str) -> Provenance:
    """What is known without a trace."""
    return Provenance(
        device="cuda" if device == "cuda" else "cpu",
        state="not_asked",
        defines=_defined(job),
        findings=job.reading.findings,
    )


def provenance_of(
    job: Job, candidate: CheckedSide, sets: Sequence[tuple[InputSet, Expected]], check: Check
) -> Provenance:
    """The provenance of a candidate that has passed, with a trace where one can be had.

    Args:
        job: what is judged.
        candidate: its side.
        sets: one of them is called with.
        check: raises Failed where the outputs are wrong: such a call was not like the others.
    """
    known = unjudged_provenance(job, candidate.device.kind)
    inputs, expected = secrets.choice(sets)
    budget_s, candidate.link.budget_s = candidate.link.budget_s, candidate.link.spent_s + _TRACE_S
    try:
        call = candidate.call(inputs, op="trace")
        check(call, expected)
        return _read(job, known, unpack_trace(call.reply.text))
    except OutOfBudget:
        return _unavailable(known, f"the traced call took longer than {_TRACE_S:g} s")
    except RunnerGone:
        return _unavailable(known, "the candidate's process ended in the traced call")
    except Failed as failed:
        return _unavailable(known, f"the traced call was not like the others: {failed.message}")
    except (BrokenProtocol, ProtocolError) as broken:
        return _unavailable(known, f"the traced call cannot be read: {broken}")
    finally:
        candidate.link.budget_s = budget_s


def _read(job: Job, known: Provenance, lines: Sequence[TraceLine]) -> Provenance:
    kernels = ran_kernels([line for line in lines if line.kind == "K"], job.reading)
    if known.device == "cuda" and not kernels:
        return _unavailable(
            known, "the profiler saw no kernel on the device (no CUPTI, or nothing ran there)"
        )
    own = frozenset(job.reading.namespaces)
    operations = [line for line in lines if line.kind == "O"]
    ours = [line for line in operations if line.name.partition("::")[0] in own]
    return Provenance(
        device=known.device,
        state="traced",
        kernels=kernels,
        operations=[_operation(line) for line in operations if line not in ours],
        own_calls=[_operation(line) for line in (*ours, *(line for line in lines if line.kind == "C"))],
        defines=known.defines,
        findings=known.findings,
    )


def _unavailable(known: Provenance, why: str) -> Provenance:
    return Provenance(
        device=known.device, state="unavailable", why=why, defines=known.defines, findings=known.findings
    )


def _defined(job: Job) -> list[str]:
    extensions = [name for _, name, _ in job.extensions]
    return list(dict.fromkeys((*job.reading.kernels, *job.reading.triton, *extensions)))[:64]


def _operation(line: TraceLine) -> RanOperation:
    return RanOperation(name=line.name, count=line.count, total_us=line.nanoseconds / 1e3)
