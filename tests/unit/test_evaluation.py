"""Sets of generations: KernelBench's naming, results that are taken up again, its numbers, reports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from keck import BadRequest, EvalDone, Options, Verdict
from keck.evaluation import Entry, Result, Results, entries_in, entries_in_manifest, summaries_of
from keck.evaluation.entries import digest_of_entry
from keck.evaluation.judging import HowToJudge, judge_entry, left_to_judge
from keck.evaluation.report import Report, write_report
from keck.evaluation.results import result_of
from keck.evaluation.scores import best_of_each, geometric_mean
from keck.messages import Flag, verdict_of
from keck.testing import sample_eval_done, sample_request

ENTRY = Entry(
    name="level_1_problem_1_sample_0", level=1, problem=1, title="ReLU", candidate="new", reference="old"
)
HOW = HowToJudge(retries=1)


def passed(speedup: float | None = 1.09, **changes: Any) -> EvalDone:
    event = sample_eval_done()
    timing = None if speedup is None else msgspec.structs.replace(event.timing, speedup=speedup)  # type: ignore[type-var]
    return msgspec.structs.replace(event, timing=timing, **changes)


def failed(verdict: Verdict) -> EvalDone:
    return verdict_of(
        sample_request(), verdict, stage="correctness", message="why <script>|`x`\n\x1b[31m", failure_kind="x"
    )


def result(number: int, verdict: EvalDone | None, *, level: int | None = 1, sample: int = 0) -> Result:
    entry = Entry(
        name=f"level_{level}_problem_{number}_sample_{sample}", level=level, problem=number, title=f"P{number}",
        sample=sample, candidate="c", reference="r",
    )  # fmt: skip
    return result_of(entry, "d", 0, verdict=verdict, error="" if verdict else "gone")


# --- naming


def lay_out(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {name}\n")
    return folder


def test_a_folder_like_kernelbenchs_is_read_as_it_is(tmp_path: Path) -> None:
    problems = lay_out(
        tmp_path / "KernelBench",
        "level1/1_Square_matrix_multiplication_.py",
        "level1/19_ReLU.py",
        "level2/1_Conv2D_ReLU_BiasAdd.py",
        "level3/1_MLP.py",
        "level1/__init__.py",
        "scripts/1_not_a_problem.py",
    )
    runs = lay_out(
        tmp_path / "runs" / "mine",
        "level_2_problem_1_sample_0_kernel.py",
        "level_1_problem_19_sample_1_kernel.py",
        "level_1_problem_19_sample_0.py",
        "level_1_problem_1_sample_0_kernel.md",
        "eval_results.json",
        "level_1_problem_19_sample_0_prompt.txt",
    )
    found = entries_in(problems, runs)
    assert [entry.name for entry in found.entries] == [
        "level_1_problem_1_sample_0",
        "level_1_problem_19_sample_0",
        "level_1_problem_19_sample_1",
        "level_2_problem_1_sample_0",
    ]
    first = found.entries[0]
    assert (first.title, first.form) == ("Square_matrix_multiplication", "answer")
    assert first.reference == "# level1/1_Square_matrix_multiplication_.py\n"
    assert found.unanswered == []  # of level 3 nothing was generated
    assert entries_in(tmp_path, tmp_path).entries == found.entries


def test_problems_without_a_generation_are_told(tmp_path: Path) -> None:
    lay_out(tmp_path, "level1/1_A.py", "level1/2_B.py", "level_1_problem_1_sample_0_kernel.py")
    assert entries_in(tmp_path, tmp_path).unanswered == ["level 1 problem 2 B"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["level1/1_A.py"], "no generations below"),
        (["level_1_problem_1_sample_0_kernel.py"], "no problems below"),
        (["level1/1_A.py", "level_1_problem_2_sample_0_kernel.py"], "has no problem"),
        (
            ["level1/1_A.py", "level1/1_B.py", "level_1_problem_1_sample_0.py"],
            "two files are level 1 problem 1",
        ),
        (
            ["level1/1_A.py", "a/level_1_problem_1_sample_0.py", "b/level_1_problem_1_sample_0_kernel.py"],
            "two files are level_1_problem_1_sample_0",
        ),
    ],
)
def test_a_folder_that_means_nothing_or_two_things_is_refused(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    lay_out(tmp_path, *names)
    with pytest.raises(BadRequest, match=sentence):
        entries_in(tmp_path, tmp_path)


def test_a_manifest_names_sources_or_files(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("old")
    lines = [
        {"candidate": "new", "reference_file": "model.py", "name": "mine", "level": 2, "problem": 3},
        {"candidate": "newer", "reference": "older"},
    ]
    file = tmp_path / "set.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)))
    mine, other = entries_in_manifest(file)
    assert (mine.name, mine.candidate, mine.reference, mine.level) == ("mine", "new", "old", 2)
    assert (other.name, other.reference) == ("line_3", "older")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ('{"candidate": "x"}', "line 1: reference: give the source"),
        ('{"candidate": "x", "reference": "y", "colour": 1}', "line 1: .*colour"),
        ("nonsense", "line 1"),
        ('{"candidate": "x", "reference_file": "nowhere.py"}', "cannot read .*nowhere.py"),
        ('{"candidate": "x", "reference": "y", "name": "n"}\n' * 2, "line 2: the name n is there already"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_where(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(text)
    with pytest.raises(BadRequest, match=sentence):
        entries_in_manifest(file)


# --- results


def test_what_was_judged_is_not_judged_again_and_what_was_not_is(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    entries = [
        msgspec.structs.replace(ENTRY, name=f"e{number}", candidate=f"c{number}") for number in range(5)
    ]
    verdicts = [
        passed(), failed(Verdict.CRASHED), failed(Verdict.INFRA_ERROR), failed(Verdict.REFERENCE_ERROR), None
    ]  # fmt: skip
    with Results(file) as results:
        for entry, verdict in zip(entries, verdicts, strict=True):
            results.add(result_of(entry, HOW.digest(entry), 0, verdict=verdict, error="gone"))
    with Results(file) as again:
        assert [entry.name for entry in left_to_judge(entries, again, HOW)] == ["e2", "e4"]
        changed = msgspec.structs.replace(HOW, options=Options(timed_calls=7))
        assert left_to_judge(entries, again, changed) == entries
        edited = msgspec.structs.replace(entries[0], candidate="another")
        assert left_to_judge([edited], again, HOW) == [edited]


def test_a_line_that_was_cut_off_is_dropped_and_the_next_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with Results(file) as results:
        results.add(result_of(ENTRY, "a", 0, verdict=passed()))
        results.add(result_of(ENTRY, "b", 0, verdict=passed()))
    file.write_bytes(file.read_bytes()[:-20])
    with Results(file) as results:
        assert results.newest(ENTRY.name, "a") is not None
        assert results.newest(ENTRY.name, "b") is None
        results.add(result_of(ENTRY, "c", 0, verdict=passed()))
    assert [json.loads(line)["digest"] for line in file.read_text().splitlines()] == ["a", "c"]


def test_a_file_that_is_none_of_ours_or_is_in_use_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with Results(file), pytest.raises(BadRequest, match="another `keck batch`"), Results(file):
        pass
    file.write_text("hello\n")
    with pytest.raises(BadRequest, match="line 1 is no result"), Results(file):
        pass
    assert file.read_text() == "hello\n"


async def test_our_failure_is_tried_again_under_another_id_and_each_try_is_a_line(tmp_path: Path) -> None:
    answers = [failed(Verdict.INFRA_ERROR), passed()]
    ids: list[str] = []

    async def judge(check: Any) -> EvalDone:
        ids.append(check.check_id)
        return answers.pop(0)

    with Results(tmp_path / "results.jsonl") as results:
        found = await judge_entry(ENTRY, results, HOW, judge)
    assert found.is_judged
    assert [name[-2:] for name in ids] == ["-0", "-1"]
    assert ids[0][:-2] == ids[1][:-2]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2


async def test_a_whole_answer_is_searched_and_one_without_code_never_leaves(tmp_path: Path) -> None:
    sent: list[str] = []

    async def judge(check: Any) -> EvalDone:
        sent.append(check.candidate)
        return passed()

    answer = msgspec.structs.replace(
        ENTRY, form="answer", candidate="So:\n```python\nclass ModelNew: ...\n```\n"
    )
    prose = msgspec.structs.replace(ENTRY, name="prose", form="answer", candidate="No.")
    with Results(tmp_path / "results.jsonl") as results:
        assert (await judge_entry(answer, results, HOW, judge)).is_judged
        found = await judge_entry(prose, results, HOW, judge)
    assert sent == ["class ModelNew: ...\n"]
    assert found.verdict is not None
    assert found.verdict.verdict is Verdict.FORMAT_ERROR


def test_how_it_is_judged_is_part_of_what_it_is() -> None:
    digests = {
        digest_of_entry(entry, kind=kind, options=options)
        for entry in (ENTRY, msgspec.structs.replace(ENTRY, form="answer"))
        for kind in ("kernel", "torch")
        for options in (Options(), Options(timed_calls=3))
    }
    assert len(digests) == 8


# --- numbers


def test_fast_p_counts_what_is_correct_and_faster_among_what_was_judged() -> None:
    results = [
        result(1, passed(0.4)),
        result(2, passed(1.0)),
        result(3, passed(4.0)),
        result(4, failed(Verdict.WRONG_RESULT)),
        result(5, failed(Verdict.INFRA_ERROR)),
        result(6, None),
    ]
    (only,) = summaries_of(results)
    assert (only.generations, only.judged, only.correct, only.timed) == (6, 4, 3, 3)
    # KernelBench's is strict: what is as fast as the baseline is not faster.
    assert only.fast_p == {"0": 0.75, "0.5": 0.5, "0.8": 0.5, "1": 0.25, "1.5": 0.25, "2": 0.25}
    assert only.speedup == pytest.approx((0.4 * 1.0 * 4.0) ** (1 / 3))
    assert only.speedup_of_faster == pytest.approx(4.0)
    assert only.verdicts == {"passed": 3, "wrong_result": 1, "infra_error": 1, "error": 1}


def test_levels_and_the_best_of_several_samples_have_lines_of_their_own() -> None:
    results = [
        result(1, passed(1.5), level=1, sample=0),
        result(1, passed(3.0), level=1, sample=1),
        result(1, failed(Verdict.CRASHED), level=2),
    ]
    overall, first, second, best = summaries_of(results)
    assert [one.title for one in (overall, first, second, best)] == [
        "all",
        "level 1",
        "level 2",
        "best of each problem",
    ]
    assert (first.judged, second.judged, best.judged) == (2, 1, 2)
    assert best.fast_p["2"] == 0.5
    assert [one.sample for one in best_of_each(results)] == [1, 0]


def test_what_was_not_timed_is_correct_and_not_fast() -> None:
    (only,) = summaries_of([result(1, passed(None))])
    assert (only.fast_p["0"], only.fast_p["0.5"], only.speedup) == (1.0, 0.0, None)


def test_nothing_judged_has_no_shares() -> None:
    (only,) = summaries_of([result(1, None)])
    assert (only.judged, only.fast_p["0"], only.speedup) == (0, 0.0, None)
    assert geometric_mean([]) is None
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)


def test_a_pass_on_a_weak_task_is_told() -> None:
    weak = passed(flags=[Flag(code="weak_task", severity="warn", evidence="zeros pass")])
    assert summaries_of([result(1, weak)])[0].weak == 1


# --- report


def test_a_report_holds_every_generation_and_nothing_of_what_they_say_becomes_markup(tmp_path: Path) -> None:
    results = [result(number, passed(0.5 + number), level=1 + number % 2) for number in range(6)]
    results += [result(9, failed(Verdict.CRASHED)), result(10, None)]
    report = Report(
        title="A <set>", about={"device": "cpu"}, results=results, unanswered=["level 1 problem 2 B"]
    )
    files = {file.name: file.read_text() for file in write_report(report, tmp_path / "deep" / "mine")}
    assert set(files) == {
        "mine.md", "mine.html", "mine.fast_p.svg", "mine.speedups.svg", "mine.verdicts.svg"
    }  # fmt: skip
    for text in (files["mine.md"], files["mine.html"]):
        assert "<script" not in text
        assert "\x1b" not in text
        assert all(one.name in text.replace("\\", "") for one in results)
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert all(f"({name})" in files["mine.md"] for name in files if name.endswith("svg"))
    assert files["mine.html"].count("<svg") == 3
    columns = [
        line.replace("\\|", "").count("|")
        for line in files["mine.md"].splitlines()
        if line.startswith("| level")
    ]
    assert set(columns) == {13, 9}


@pytest.mark.parametrize(
    "results", [[], [result(1, None)], [result(1, passed(1.0))]], ids=["none", "error", "one"]
)
def test_a_plot_of_little_or_nothing_is_a_plot(tmp_path: Path, results: list[Result]) -> None:
    for file in write_report(Report(title="t", about={}, results=results), tmp_path / "few"):
        if file.suffix == ".svg":
            drawing = ElementTree.fromstring(file.read_text())
            assert drawing.tag.endswith("svg")
            numbers = [
                value for part in drawing.iter() for value in part.attrib.values() if "nan" in value.lower()
            ]
            assert numbers == []


def test_the_curve_is_fast_p_itself(tmp_path: Path) -> None:
    results = [result(number, passed(speedup)) for number, speedup in enumerate((0.5, 1.5))]
    files = write_report(Report(title="t", about={}, results=results), tmp_path / "curve")
    drawing = next(file for file in files if file.name == "curve.fast_p.svg").read_text()
    curve = ElementTree.fromstring(drawing).find(".//{http://www.w3.org/2000/svg}polyline")
    assert curve is not None
    heights = [float(point.split(",")[1]) for point in curve.attrib["points"].split()]
    assert heights == sorted(heights)  # y grows downwards: the share only falls
    assert len({round(height, 1) for height in heights}) == 3
    assert math.isclose(heights[-1], 300 - 40, abs_tol=0.1)
