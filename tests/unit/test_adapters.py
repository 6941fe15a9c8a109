"""What adapters have in common: extraction, rewards, facts, settings, tasks."""

from __future__ import annotations

import re

import msgspec
import pytest

from keck import BadRequest, Options, Verdict
from keck.adapters import AdapterSettings, RewardPolicy, candidate_in, task_of
from keck.adapters import rewards as rewards_module
from keck.adapters.preparation import check_or_score
from keck.adapters.rewards import reward_for
from keck.adapters.score import KEYS, Score, format_error, not_judged, scored
from keck.messages import MAX_SOURCE_BYTES, EvalDone, verdict_of
from keck.testing import sample_eval_done, sample_request

MODEL = "class ModelNew:\n    pass\n"
OTHER = "class ModelNew:\n    x = 1\n"
HELPER = "def helper():\n    pass\n"


def fenced(text: str, language: str = "python", fence: str = "```") -> str:
    return f"{fence}{language}\n{text}{fence}\n"


@pytest.mark.parametrize(
    ("text", "which", "source"),
    [
        pytest.param(f"Here:\n{fenced(MODEL)}Done.", "only", MODEL, id="one-block"),
        pytest.param(fenced(MODEL, ""), "only", MODEL, id="no-language"),
        pytest.param(fenced(MODEL, "py"), "only", MODEL, id="py"),
        pytest.param(fenced(MODEL, "Python"), "only", MODEL, id="capital"),
        pytest.param(fenced(MODEL, "python title=x"), "only", MODEL, id="words-after-the-language"),
        pytest.param(fenced(MODEL, "python", "~~~~"), "only", MODEL, id="tildes"),
        pytest.param(fenced(MODEL).replace("\n", "\r\n"), "only", MODEL.replace("\n", "\r\n"), id="crlf"),
        pytest.param(fenced(MODEL) + fenced(OTHER), "last", OTHER, id="last"),
        pytest.param(fenced(MODEL) + fenced(OTHER), "first", MODEL, id="first"),
        pytest.param(fenced(MODEL) + fenced(HELPER), "last", MODEL, id="what-defines-the-class-is-meant"),
        pytest.param(fenced(HELPER) + fenced(MODEL), "only", MODEL, id="a-helper-beside-it"),
        pytest.param(fenced(HELPER) + fenced(MODEL), "all", f"{HELPER}\n\n{MODEL}", id="all"),
        pytest.param(fenced(MODEL) + fenced("$ nvcc\n", "sh"), "last", MODEL, id="another-language"),
        pytest.param(fenced("x\n", "") + fenced(MODEL), "only", MODEL, id="unnamed-beside-named"),
        pytest.param(f"<think>{fenced(OTHER)}</think>{fenced(MODEL)}", "only", MODEL, id="thought"),
        pytest.param(f"{fenced(OTHER)}</think>{fenced(MODEL)}", "only", MODEL, id="thought-begun-in-the-prompt"),
        pytest.param(MODEL, "only", MODEL, id="bare"),
        pytest.param(fenced(MODEL + '"""\n```\n"""\n', "python", "````"), "only", MODEL + '"""\n```\n"""\n', id="longer-fence"),
        pytest.param(fenced(HELPER), "last", HELPER, id="without-the-class-the-judge-says-so"),
    ],
)  # fmt: skip
def test_a_candidate_is_found(text: str, which: str, source: str) -> None:
    found = candidate_in(text, which)  # type: ignore[arg-type]
    assert found.problem == ""
    assert found.source == source


@pytest.mark.parametrize(
    ("text", "which", "problem"),
    [
        ("I cannot do that.", "last", "no code block"),
        ("", "last", "no code block"),
        (f"```python\n{MODEL}", "last", "not closed"),
        (fenced(MODEL) + "```python\nclass", "first", "not closed"),
        (fenced(MODEL) + fenced(OTHER), "only", "2 code blocks could be meant"),
        (fenced(MODEL) + fenced(OTHER), "all", "2 code blocks define ModelNew"),
        (fenced("int x;\n", "cuda") + fenced("y\n", "cpp"), "last", "there is cpp, cuda"),
        (f"<think>{fenced(MODEL)}", "last", "no </think>"),
        (f"<think>a</think><think>{fenced(MODEL)}", "last", "no </think>"),
    ],
)
def test_what_is_ambiguous_or_cut_off_is_a_format_error(text: str, which: str, problem: str) -> None:
    found = candidate_in(text, which)  # type: ignore[arg-type]
    assert problem in found.problem
    assert found.source == ""
    settings = AdapterSettings.of({"extract": which, "format_error": -0.5})
    score = check_or_score(text, task_of("reference"), settings)
    assert isinstance(score, Score)
    assert (score.reward, score.facts["verdict"], score.facts["mask_sample"]) == (-0.5, "format_error", 0)


@pytest.mark.parametrize("candidate", ["#" * (MAX_SOURCE_BYTES + 1), "x = '\ud800'\n"])
def test_a_candidate_that_cannot_be_sent_is_the_models_fault_and_never_masked(candidate: str) -> None:
    score = check_or_score(fenced(f"{MODEL}{candidate}\n"), task_of("reference"), AdapterSettings())
    assert isinstance(score, Score)
    assert score.facts["verdict"] == "format_error"
    assert not score.is_masked


def event(verdict: Verdict) -> EvalDone:
    return (
        sample_eval_done()
        if verdict is Verdict.PASSED
        else verdict_of(
            sample_request(), verdict, stage="correctness", message="why", failure_kind="x", log="l" * 9000
        )
    )


def test_every_outcome_has_the_same_keys_and_only_numbers_and_texts() -> None:
    scores = [scored(event(verdict), RewardPolicy()) for verdict in Verdict]
    scores += [
        format_error("no block", RewardPolicy()),
        not_judged("infra_error", failure_kind="unavailable", reason="gone"),
    ]
    for score in scores:
        assert tuple(score.facts) == KEYS
        assert all(type(value) in (int, float, str) for value in score.facts.values())
        assert {key: isinstance(value, str) for key, value in score.facts.items()} == {
            key: isinstance(value, str) for key, value in scores[0].facts.items()
        }
        assert len(str(score.facts["feedback"])) <= 2000
        assert score.is_masked == bool(score.facts["mask_sample"])


def test_only_what_is_not_the_candidates_doing_has_no_reward() -> None:
    for verdict in Verdict:
        assert (reward_for(event(verdict), RewardPolicy()) is None) is verdict.standing.mask_sample


def test_the_documented_table_is_what_is_paid() -> None:
    policy = RewardPolicy(passed=1, speedup_weight=2, format_error=3, not_built=4, wrong=5, hack=6)
    numbers = {"format_error": 3, "not_built": 4, "wrong": 5, "hack": 6}
    paid: dict[str, float | None] = {}
    verdicts: list[str] = []
    body = (rewards_module.__doc__ or "").split("=\n")[2]
    for row in body.splitlines():
        verdicts += re.findall(r"``(\w+)``", row)
        if row[66:].strip():
            name = re.findall(r"`(\w+)`", row[66:])
            for verdict in verdicts:
                paid[verdict] = None if not name else numbers.get(name[0], -1)
            verdicts = []
    assert paid.pop("passed") == -1
    passed = reward_for(event(Verdict.PASSED), policy)
    assert passed == 1 + 2 * 1.06  # the lower end of the sample's speedup
    assert paid == {
        str(verdict): reward_for(event(verdict), policy)
        for verdict in Verdict
        if verdict is not Verdict.PASSED
    }


def test_a_speedup_is_counted_up_to_its_cap_and_not_where_nothing_was_timed() -> None:
    policy = RewardPolicy(speedup_cap=1.0)
    assert reward_for(event(Verdict.PASSED), policy) == pytest.approx(1.3)
    untimed = msgspec.structs.replace(event(Verdict.PASSED), timing=None)
    assert reward_for(untimed, policy) == pytest.approx(0.3)


def test_settings_are_flat_and_each_finds_its_place() -> None:
    given = {"url": "http://x", "device": "cpu", "hack": -2, "timed_calls": 5, "extract": "only"}
    settings = AdapterSettings.of(given)
    assert (settings.judge.url, settings.judge.extract) == ("http://x", "only")
    assert (settings.options.device, settings.options.timed_calls) == ("cpu", 5)
    assert settings.rewards.hack == -2
    assert AdapterSettings.of({"timed_calls": "5", "neutral": "0.5"}, from_text=True).judge.neutral == 0.5


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"devise": "cpu"}, "unknown setting 'devise'"),
        ({"device": "tpu"}, "settings"),
        ({"extract": "best"}, "settings"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        AdapterSettings.of(given)


@pytest.mark.parametrize(
    "label",
    [
        "class Model: ...",
        {"reference": "class Model: ..."},
        '{"reference": "class Model: ...", "options": {}}',
    ],
)
def test_a_task_may_be_text_a_mapping_or_json(label: object) -> None:
    assert task_of(label).reference == "class Model: ..."


@pytest.mark.parametrize(
    "label", ["", "  ", None, 3, {}, {"reference": ""}, '{"ref": 1}', {"reference": "x", "y": 1}]
)
def test_what_is_no_task_is_refused(label: object) -> None:
    with pytest.raises(BadRequest):
        task_of(label)


def test_a_tasks_own_options_go_before_the_adapters() -> None:
    task = task_of({"reference": "x", "options": {"timed_calls": 3}})
    assert task.options_over(Options(device="cpu", timed_calls=50)) == Options(device="cpu", timed_calls=3)
    with pytest.raises(BadRequest, match="devise"):
        task_of({"reference": "x", "options": {"devise": 1}}).options_over(Options())
