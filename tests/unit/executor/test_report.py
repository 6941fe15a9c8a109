from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from keck.messages import MAX_LOG_BYTES, EvalDone, Lint, decode, encode
from keck.testing import sample_compile_done
from keck.verdict import Verdict
from keck_executor.judge.job import Outcome
from keck_executor.report import report
from keck_sandbox import Exit


def _report(*, exit_: Exit | None = None, output: str = "", suspected: str = "", **outcome: Any) -> EvalDone:
    fields: dict[str, Any] = {
        "serial": 1,
        "verdict": Verdict.WRONG_RESULT,
        "stage": "correctness",
        "message": "3 of 4 values are wrong",
    }
    return report(
        sample_compile_done(),
        Outcome(**(fields | outcome)),
        exit_=exit_,
        output=output,
        facts={"torch": "2"},
        attempt=2,
        started=time.time(),
        suspected=suspected,
    )


def _ended(code: int) -> Exit:
    return Exit(code=code, wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1)


@pytest.mark.parametrize(
    ("code", "stage", "told"),
    [
        (-11, "correctness", "the candidate's process was killed by SIGSEGV while its outputs were compared"),
        (-9, "timing", "the candidate's process was killed by SIGKILL while it was timed"),
        (0, "load", "the candidate's process exited with status 0 while it was loaded"),
        (-250, "load", "the candidate's process was killed by signal 250 while it was loaded"),
    ],
)
def test_a_crash_says_how_and_when(code: int, stage: str, told: str) -> None:
    done = _report(verdict=Verdict.CRASHED, ended="candidate", stage=stage, exit_=_ended(code))
    assert done.message == told


def test_a_cell_killed_for_its_memory_ran_out_of_memory() -> None:
    exit_ = Exit(code=-9, wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1, over_memory=True)
    done = _report(verdict=Verdict.CRASHED, ended="candidate", stage="load", exit_=exit_)
    assert done.verdict is Verdict.OUT_OF_MEMORY
    assert "more memory than it may" in done.message


def test_a_crash_nobody_saw_the_end_of_is_told_all_the_same() -> None:
    done = _report(verdict=Verdict.CRASHED, ended="candidate")
    assert done.message == "the candidate's process was ended while its outputs were compared"


def test_the_references_crash_is_told_as_its_own() -> None:
    done = _report(verdict=Verdict.REFERENCE_ERROR, ended="reference", exit_=_ended(3), stage="load")
    assert done.message == "the reference's process exited with status 3 while it was loaded"


def test_any_other_verdict_keeps_the_judges_message() -> None:
    assert _report().message == "3 of 4 values are wrong"


def test_traceback_and_output_are_both_in_the_log() -> None:
    assert _report(detail="Traceback: X\n", output="hello\n").log == "Traceback: X\n--- output ---\nhello"
    assert _report(output="hello\n").log == "hello"
    assert _report(detail="Traceback: X\n").log == "Traceback: X"


def test_the_log_keeps_head_and_tail_within_its_limit() -> None:
    done = _report(output="head" + "\u00e9" * MAX_LOG_BYTES + "tail")
    assert len(done.log.encode()) <= MAX_LOG_BYTES
    assert done.log.startswith("head")
    assert done.log.endswith("tail")
    assert "\n...\n" in done.log


def test_the_verdict_can_travel() -> None:
    done = _report()
    assert decode(encode(done), EvalDone) == done
    assert done.attempts == 2
    assert done.environment["torch"] == "2"


@pytest.mark.parametrize("kind", ["kernel", "torch", "lint"])
def test_the_lint_comes_along_where_it_was_asked_for(kind: str) -> None:
    found = Lint(
        weak=False,
        comparison="tolerance",
        answers=[],
        repeat_max_abs_err=0.0,
        stress_inputs=None,
        oracle="fp64",
        own_rms_err=1e-7,
        sets=3,
    )
    compiled = msgspec.structs.replace(sample_compile_done(), kind=kind)
    outcome = Outcome(serial=1, verdict=Verdict.PASSED, stage="done", message="", lint=found)
    done = report(compiled, outcome, exit_=None, output="", facts={}, attempt=1, started=time.time())
    assert done.lint == (found if kind == "lint" else None)
    assert decode(encode(done), EvalDone) == done


def test_a_time_that_cannot_be_is_a_hack_once_other_runners_have_shown_it_too() -> None:
    fields: dict[str, Any] = {"verdict": Verdict.PASSED, "stage": "done", "message": "9x", "correct": True}
    once = _report(suspicion="2 us", **fields)
    assert once.verdict is Verdict.PASSED
    twice = _report(suspicion="2 us", suspected="1 us", **fields)
    assert twice.verdict is Verdict.HACK_DETECTED
    assert "2 us" in twice.message
    (flag,) = twice.flags
    assert (flag.code, flag.severity) == ("timing.faster_than_memory", "reject")
    assert "2 us" in flag.evidence
    assert "1 us" in flag.evidence


def test_a_time_that_others_cannot_show_is_told_and_forgotten() -> None:
    done = _report(suspected="1 us", verdict=Verdict.PASSED, stage="done", message="9x", correct=True)
    assert done.verdict is Verdict.PASSED
    (flag,) = done.flags
    assert (flag.code, flag.severity) == ("timing.measured_again", "info")
