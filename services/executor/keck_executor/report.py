"""The judge's outcome as the terminal event."""

from __future__ import annotations

import time

from keck import __version__
from keck.hashing import digest_of
from keck.kinds.lint import LINT
from keck.messages import MAX_LOG_BYTES, CompileDone, Durations, EvalDone, Flag, Hashes, verdict_of
from keck.verdict import Verdict
from keck_executor.judge.job import Outcome
from keck_sandbox import Exit

__all__ = ["report"]

_CUT = "\n...\n"
_DOING = {
    "load": "while it was loaded",
    "correctness": "while its outputs were compared",
    "timing": "while it was timed",
}


def report(
    event: CompileDone,
    outcome: Outcome,
    *,
    exit_: Exit | None,
    output: str,
    facts: dict[str, str | float | None],
    attempt: int,
    started: float,
    suspected: str = "",
) -> EvalDone:
    """The verdict with its evidence.

    Args:
        event: the build that was judged.
        outcome: what the judge found; its verdict is not None.
        exit_: how the runner's process ended, where that decided the check.
        output: what the process printed, capped.
        facts: of the device.
        attempt: which attempt this is, from 1.
        started: when the executor took the check in hand, Unix seconds.
        suspected: what was found when the check was judged before, by other runners: a time that cannot be.
    """
    assert outcome.verdict is not None
    now = time.time()
    waited = max(0.0, started - event.compiled_at) + max(
        0.0, event.compiled_at - event.submitted_at - event.compile_s
    )
    verdict = outcome.verdict
    if verdict is Verdict.CRASHED and exit_ is not None and exit_.over_memory:
        verdict = Verdict.OUT_OF_MEMORY  # the judge only saw it go
    message, flags = _message(outcome, exit_), list(outcome.flags)
    if suspected and outcome.suspicion:
        verdict, message = Verdict.HACK_DETECTED, f"faster than the device's memory: {outcome.suspicion}"
        evidence = f"{outcome.suspicion}; with other runners before: {suspected}"
        flags.append(Flag(code="timing.faster_than_memory", severity="reject", evidence=evidence))
    elif suspected:
        evidence = f"a first measurement, which was discarded: {suspected}"
        flags.append(Flag(code="timing.measured_again", severity="info", evidence=evidence))
    return verdict_of(
        event,
        verdict,
        stage=outcome.stage,
        message=message,
        log=_log(outcome, output),
        correct=outcome.correct,
        correctness=outcome.correctness,
        timing=outcome.timing if verdict is Verdict.PASSED else None,
        flags=flags,
        profile=outcome.profile,
        lint=outcome.lint if event.kind == LINT.name else None,
        durations_s=Durations(
            queued=waited,
            compile=event.compile_s,
            gpu_held=outcome.held_s,
            total=max(0.0, now - event.submitted_at),
        ),
        attempts=attempt,
        seeds=outcome.seeds,
        build=event.build,
        hashes=Hashes(
            candidate=event.candidate.sha256, reference=event.reference.sha256, artifact=_artifact(event)
        ),
        environment={
            "gpu": facts.get("gpu"),
            "gpu_uuid": facts.get("gpu_uuid"),
            "driver": facts.get("driver"),
            "cpu": facts.get("cpu"),
            "torch": facts.get("torch"),
            "cuda": facts.get("cuda"),
            "judge": __version__,
            "sandbox": facts.get("sandbox"),
            "sandbox_open": facts.get("sandbox_open"),
            "memory_between_processes": facts.get("memory_between_processes"),
            "clocks_mhz": None,
            **outcome.device,
        },
    )


def _message(outcome: Outcome, exit_: Exit | None) -> str:
    if outcome.verdict is Verdict.CRASHED or (outcome.ended and exit_ is not None):
        how = exit_.described if exit_ is not None else "ended"
        side = outcome.ended or "candidate"
        return f"the {side}'s process was {how} {_DOING.get(outcome.stage, '')}".replace(
            "was exited", "exited"
        ).strip()
    return outcome.message


def _log(outcome: Outcome, output: str) -> str:
    parts = [part.strip("\n") for part in (outcome.detail, output) if part.strip()]
    text = "\n--- output ---\n".join(parts) if outcome.detail else "".join(parts)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= MAX_LOG_BYTES:
        return text
    half = (MAX_LOG_BYTES - len(_CUT)) // 2
    return raw[:half].decode("utf-8", "ignore") + _CUT + raw[-half:].decode("utf-8", "ignore")


def _artifact(event: CompileDone) -> str:
    names = [extension.artifact for extension in event.extensions]
    return names[0] if len(names) == 1 else digest_of(*names) if names else ""
