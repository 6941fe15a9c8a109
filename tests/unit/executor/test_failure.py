from __future__ import annotations

import pytest

from keck.verdict import Verdict
from keck_executor.judge.failure import failure_of, text_of
from keck_executor.runner.wire import Reply, Status

TRACEBACK = """Traceback (most recent call last):
  File "candidate.py", line 3, in forward
    raise ValueError("bad")
ValueError: bad
"""


def _reply(text: str, status: Status = Status.EXCEPTION) -> Reply:
    return Reply(1, status, text=text.encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        (TRACEBACK, "ValueError: bad"),
        (
            TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
            "Traceback (most recent call last):\n  File x\nKeyError: 1\n",
            "KeyError: 1",
        ),
        (
            "torch.AcceleratorError: CUDA error: an illegal memory access\nCompile with `X` to enable assertions.\n",
            "torch.AcceleratorError: CUDA error: an illegal memory access",
        ),
        ("AssertionError\n", "AssertionError"),
        ("just words here\n", "just words here"),
        ("", "no reason given"),
        (" \n\n", "no reason given"),
    ],
)
def test_the_gist_names_the_exception(text: str, gist: str) -> None:
    assert failure_of("candidate", _reply(text), "calling forward").message == f"calling forward: {gist}"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (Status.EXCEPTION, Verdict.RUNTIME_ERROR),
        (Status.OUT_OF_MEMORY, Verdict.OUT_OF_MEMORY),
        (Status.UNSUPPORTED, Verdict.FORMAT_ERROR),
        (Status.MISSING, Verdict.LOAD_ERROR),
        (Status.READY, Verdict.RUNTIME_ERROR),
        (Status.NO_ROOM, Verdict.RUNTIME_ERROR),
        (Status.OK, Verdict.RUNTIME_ERROR),
    ],
)
def test_each_status_has_its_verdict(status: Status, verdict: Verdict) -> None:
    assert failure_of("candidate", _reply("x", status), "importing").verdict is verdict


@pytest.mark.parametrize("status", Status)
def test_a_failure_of_the_reference_is_never_the_candidates(status: Status) -> None:
    failed = failure_of("reference", _reply(TRACEBACK, status), "importing", otherwise=Verdict.LOAD_ERROR)
    assert failed.verdict is Verdict.REFERENCE_ERROR
    assert failed.message == "the reference failed: importing: ValueError: bad"


def test_an_exception_while_loading_is_a_load_error_but_out_of_memory_stays_what_it_is() -> None:
    load = {"doing": "importing", "otherwise": Verdict.LOAD_ERROR}
    assert failure_of("candidate", _reply("x"), **load).verdict is Verdict.LOAD_ERROR  # type: ignore[arg-type]
    late = failure_of("candidate", _reply("x", Status.OUT_OF_MEMORY), **load)  # type: ignore[arg-type]
    assert late.verdict is Verdict.OUT_OF_MEMORY


def test_a_long_message_is_cut() -> None:
    assert len(failure_of("candidate", _reply("E: " + "x" * 9000), "importing").message) < 450


def test_escape_sequences_and_control_characters_go() -> None:
    assert text_of(b"\x1b[31mred\x1b[0m \x00\x07bell\xff\n\tok\x9b") == "red bell\ufffd\n\tok\ufffd"
