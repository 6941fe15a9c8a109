"""``keck batch``: a whole set of generations, in KernelBench's naming or by a manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from keck._version import __version__
from keck.batches import Check, as_they_come
from keck.cli._here import judge_here
from keck.cli._options import (
    Arch,
    CompileTimeout,
    CorrectnessSets,
    Deadline,
    Device,
    ExecTimeout,
    Kind,
    Policy,
    TimedCalls,
    Tolerance,
    Url,
)
from keck.cli._progress import LongRun
from keck.cli._run import run_to_exit
from keck.cli._stages import Silent
from keck.cli._talk import plain, print_data, print_json, say, settings_and_logs
from keck.client import CheckArguments, Client, options_from
from keck.errors import BadRequest
from keck.evaluation import (
    Entry,
    Result,
    Results,
    Summary,
    entries_in,
    entries_in_manifest,
    summaries_of,
)
from keck.evaluation.judging import HowToJudge, Judge, judge_entry, left_to_judge
from keck.evaluation.report import Report, write_report
from keck.evaluation.scores import FAST_P
from keck.kinds import kind_named
from keck.messages import EvalDone, Options
from keck.settings import Settings
from keck.verdict import ExitCode

__all__ = ["batch"]

_AT_ONCE_THERE = 64
_AT_ONCE_HERE = 4
"""As many are on their way at a time: the next are built while one is judged."""
_RESULTS = "keck-results.jsonl"


def batch(
    problems: Annotated[
        Path,
        typer.Argument(
            metavar="PROBLEMS",
            help="Folder of problems named like level1/19_ReLU.py; or a manifest, a file of lines of JSON.",
        ),
    ],
    generations: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GENERATIONS]",
            help="Folder of generations named like level_1_problem_19_sample_0_kernel.py (.md or .txt: a model's whole "
            "answer). [default: PROBLEMS]",
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Results as lines of JSON; those that are there count. [default: {_RESULTS}, beside the generations]"
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write NAME.md with its plots, and NAME.html."),
    ] = None,
    device: Device = "auto",
    kind: Kind = "kernel",
    tolerance: Tolerance = "kernelbench",
    policy: Policy = "library-allowed",
    arch: Arch = "",
    timed_calls: TimedCalls = 100,
    correctness_sets: CorrectnessSets = 5,
    compile_timeout: CompileTimeout = None,
    exec_timeout: ExecTimeout = None,
    extract: Annotated[
        Literal["last", "first", "only", "all"],
        typer.Option(help="Which code block of a whole answer is the candidate."),
    ] = "last",
    retries: Annotated[
        int, typer.Option(min=0, help="Fresh checks of a generation after a failure of Keck's.")
    ] = 2,
    at_once: Annotated[
        int,
        typer.Option(
            min=0,
            help=f"How many are on their way at a time; 0: {_AT_ONCE_THERE}, or {_AT_ONCE_HERE} on a private system.",
        ),
    ] = 0,
    deadline: Deadline = 3600.0,
    run: Annotated[str, typer.Option(help="Name of the run the checks belong to.")] = "batch",
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="The numbers as one line of JSON.")] = False,
) -> None:
    """Judge a whole set of generations; say how many are correct, fast_p and speedups, overall and by level.

    The same command again goes on where it was stopped: what was judged is not judged again, what could not be
    judged is. Exits 0 if every generation was judged, whatever came of it, and 3 if some were not.

    KernelBench and a run of its generations: `keck batch KernelBench/ runs/mine/ --device cuda`

    With a report for people: `keck batch KernelBench/ runs/mine/ --report report/mine`

    Only the numbers, of a set that is judged already: `keck batch KernelBench/ runs/mine/ --json | jq .summaries[0]`

    What failed, and why: `jq -r 'select(.verdict.correct != true) | [.name, .verdict.message] | @tsv' keck-results.jsonl`
    """
    settings = settings_and_logs()
    kind_named(kind)
    how = HowToJudge(
        kind=kind,
        options=options_from(
            {
                "device": device,
                "tolerance": tolerance,
                "policy": policy,
                "arch": arch,
                "timed_calls": timed_calls,
                "correctness_sets": correctness_sets,
                "compile_timeout_s": compile_timeout,
                "exec_timeout_s": exec_timeout,
            }
        ),
        run=run,
        deadline_s=deadline,
        retries=retries,
        extract=extract,
    )
    entries, unanswered = _entries(problems, generations)
    file = out or (generations or (problems if problems.is_dir() else problems.parent)) / _RESULTS
    where = url or settings.url or settings.nats_url
    run_to_exit(
        _batch(
            entries,
            unanswered,
            how,
            file=file,
            report=report,
            where=where,
            at_once=at_once,
            settings=settings,
            json=json,
        )
    )


async def _batch(
    entries: list[Entry],
    unanswered: list[str],
    how: HowToJudge,
    *,
    file: Path,
    report: Path | None,
    where: str,
    at_once: int,
    settings: Settings,
    json: bool,
) -> int:
    with Results(file) as results:
        left = left_to_judge(entries, results, how)
        say(
            f"keck: {len(entries)} generations, {len(entries) - len(left)} of them judged already; results in {file}"
        )
        try:
            if left:
                await _judge_all(left, results, how, where=where, at_once=at_once, settings=settings)
        finally:
            found = [results.newest(entry.name, how.digest(entry)) for entry in entries]
            done = [result for result in found if result is not None]
            if len(done) < len(entries):
                say(f"keck: {len(done)} of {len(entries)} are in {file}; the same command goes on from there")
    if report is not None:
        about = _about(how, done)
        title = f"Keck batch: {len(entries)} generations"
        written = write_report(Report(title=title, about=about, results=done, unanswered=unanswered), report)
        say(f"keck: wrote {', '.join(map(str, written))}")
    summaries = summaries_of(done)
    if json:
        print_json({"summaries": summaries, "unanswered": unanswered, "results": str(file)})
    else:
        print_data(_table(summaries))
    return ExitCode.PASSED if all(result.is_judged for result in done) else ExitCode.INFRASTRUCTURE


async def _judge_all(
    left: list[Entry], results: Results, how: HowToJudge, *, where: str, at_once: int, settings: Settings
) -> None:
    place = _there(where, settings) if where else _here(how.options, settings)
    async with place as judge:
        with LongRun(len(left)) as progress:
            window = at_once or (_AT_ONCE_THERE if where else _AT_ONCE_HERE)

            async def one(_: int, entry: Entry) -> Result:
                return await judge_entry(entry, results, how, judge)

            async with aclosing(as_they_come(left, one, at_once=window)) as decided:
                async for result in decided:
                    progress.advance(str(result.verdict.verdict) if result.verdict else "error")


@asynccontextmanager
async def _there(where: str, settings: Settings) -> AsyncIterator[Judge]:
    async with Client(where, settings=settings) as client:
        await client.executors()  # what cannot be reached is said once, and not of every generation
        yield client.check_patiently


@asynccontextmanager
async def _here(options: Options, settings: Settings) -> AsyncIterator[Judge]:
    stages = Silent()
    async with judge_here(options, stages, settings=settings) as follow:

        async def judge(check: Check) -> EvalDone:
            given = CheckArguments(
                check_id=check.check_id,
                run=check.run,
                kind=check.kind,
                lane=check.lane,
                options=check.options,
                deadline_s=check.deadline_s,
            )
            return await follow((check.candidate, check.reference), given, stages)

        yield judge


def _entries(problems: Path, generations: Path | None) -> tuple[list[Entry], list[str]]:
    """What to judge, and problems that have no generation."""
    if problems.is_file():
        if generations is not None:
            raise BadRequest(
                f"{problems} is a manifest, which names its candidates itself; leave {generations} out"
            )
        return entries_in_manifest(problems), []
    for folder in (problems, generations):
        if folder is not None and not folder.is_dir():
            raise BadRequest(f"there is no folder {folder}")
    return entries_in(problems, generations or problems)


def _about(how: HowToJudge, results: Sequence[Result]) -> dict[str, str]:
    """Where and how it was judged, as the verdicts say."""
    events = [result.verdict for result in results if result.verdict is not None]
    named = {
        "device": sorted(
            {str(event.environment.get("gpu") or event.timing.device) for event in events if event.timing}
        ),
        "torch": sorted(
            {str(event.environment["torch"]) for event in events if event.environment.get("torch")}
        ),
    }
    options = how.options
    return {
        **{name: ", ".join(values) for name, values in named.items() if values},
        "tolerance": options.tolerance,
        "policy": options.policy,
        "baseline": options.baseline,
        "input sets": str(options.correctness_sets),
        "timed calls a side": str(options.timed_calls),
        "keck": __version__,
    }


def _table(summaries: Sequence[Summary]) -> Text:
    headings = ["", "judged", "compiled", "correct", *(f"fast_{p:g}" for p in FAST_P[1:]), "speedup"]
    rows = [
        [
            one.title,
            f"{one.judged}/{one.generations}",
            str(one.compiled),
            f"{one.correct} ({one.correct / one.judged:.0%})" if one.judged else "0",
            *(f"{one.fast_p[f'{p:g}']:.1%}" for p in FAST_P[1:]),
            "" if one.speedup is None else f"{one.speedup:.3g}",
        ]
        for one in summaries
    ]
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    text = Text()
    for row in [headings, *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        text.append("  ".join(cells).rstrip() + "\n", style="dim" if row is headings else "")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in summaries[0].verdicts.items())
    text.append(plain(counts))
    if summaries[0].weak:
        text.append(
            f"\n{summaries[0].weak} correct ones are of tasks that an answer which computes nothing would pass"
        )
    return text
