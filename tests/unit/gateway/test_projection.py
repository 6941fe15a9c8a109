"""Verdicts in the original's shape, without any I/O."""

from __future__ import annotations

import pytest

from keck.kinds import kinds_with_routes
from keck.messages import verdict_of
from keck.testing import sample_eval_done, sample_request
from keck.verdict import Verdict
from keck_gateway.projection import MAX_LOG_CHARS, legacy_answer, missing_fields


@pytest.mark.parametrize("verdict", Verdict)
def test_200_is_exactly_for_what_the_candidate_did(verdict):
    event = verdict_of(sample_request(), verdict, stage="done", message="why")
    status, answer = legacy_answer(event)
    assert (status == 200) == event.valid
    assert answer.passed == (verdict is Verdict.PASSED)
    assert answer.compiled <= answer.formated
    assert answer.passed <= answer.compiled
    if not answer.passed:
        assert isinstance(answer.msg, str)
        prefix = f"failed: {verdict}: why" if event.valid else ("failed: infrastructure", "failed: reference")
        assert answer.msg.startswith(prefix)


def test_a_pass_without_timing_or_profile_has_nulls_and_not_gaps():
    _, answer = legacy_answer(sample_eval_done(timing=None))
    assert [getattr(answer.msg, name) for name in answer.msg.__struct_fields__] == [None] * 4


def test_times_are_seconds():
    _, answer = legacy_answer(sample_eval_done())
    assert answer.msg.torch_time == pytest.approx(0.0092e-3)
    assert answer.msg.cuda_time == pytest.approx(0.0084e-3)


def test_a_long_log_keeps_its_head_and_its_tail():
    log = "first error\n" + "x" * 100_000 + "\nlast line"
    event = verdict_of(sample_request(), Verdict.COMPILE_ERROR, stage="compile", message="why", log=log)
    text = legacy_answer(event).answer.msg
    assert "first error" in text
    assert text.endswith("last line")
    assert len(text) < MAX_LOG_CHARS + 200


@pytest.mark.parametrize("kind", kinds_with_routes(), ids=lambda kind: kind.name)
def test_a_form_with_both_fields_lacks_nothing(kind):
    assert missing_fields(kind, candidate="c", reference="r") is None
    assert missing_fields(kind, candidate=None, reference="r").msg == kind.missing_candidate
