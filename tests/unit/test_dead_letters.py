"""What can be said of a message that cannot be read."""

from __future__ import annotations

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from keck.dead_letters import names_in, verdict_on_unreadable
from keck.messages import EvalDone, decode, encode
from keck.verdict import Verdict


def _message(subject: str, data: bytes = b"\xc1") -> Msg:
    return Msg(Client(), subject=subject, data=data)


@pytest.mark.parametrize("subject", ["check.requested.bulk.run.id", "compile.done.sm90.bulk.run.id"])
def test_run_and_check_id_are_the_end_of_the_subject(subject: str) -> None:
    assert names_in(subject) == ("run", "id")


def test_the_check_that_the_subject_names_gets_a_verdict_that_is_nobodys_fault() -> None:
    verdict = verdict_on_unreadable(_message("check.requested.bulk.run.id"), "a\nreason")
    assert verdict is not None
    assert (verdict.run, verdict.check_id, verdict.generation) == ("run", "id", 0)
    assert verdict.verdict is Verdict.INFRA_ERROR
    assert verdict.mask_sample
    assert verdict.message == "the message of this check could not be read: a reason"
    assert decode(encode(verdict), EvalDone) == verdict


@pytest.mark.parametrize(("generation", "taken"), [(3, 3), (-1, 0), (True, 0), ("3", 0), (None, 0)])
def test_the_generation_is_taken_where_it_can_be_read(generation: object, taken: int) -> None:
    data = msgspec.msgpack.encode({"v": 9, "generation": generation})
    verdict = verdict_on_unreadable(_message("check.requested.bulk.run.id", data), "reason")
    assert verdict is not None
    assert verdict.generation == taken


def test_names_that_no_verdict_could_carry_get_none() -> None:
    assert verdict_on_unreadable(_message("check.requested.bulk.run.ü"), "reason") is None
    assert verdict_on_unreadable(_message("check.requested.bulk.run." + "x" * 65), "reason") is None
