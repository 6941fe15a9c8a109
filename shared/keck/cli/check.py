"""``keck check``: one candidate against one reference."""

from __future__ import annotations

from typing import Annotated

import typer

from keck.cli._here import judge_here
from keck.cli._options import (
    Arch,
    CompileTimeout,
    CorrectnessSets,
    Deadline,
    Device,
    ExecTimeout,
    Gpu,
    Json,
    Kind,
    TimedCalls,
    Tolerance,
    Url,
)
from keck.cli._report import report_of
from keck.cli._run import run_to_exit
from keck.cli._sources import STDIN, read_source
from keck.cli._stages import Stages
from keck.cli._talk import print_data, print_json, settings_and_logs
from keck.cli._there import judge_there
from keck.client import CheckArguments, options_from
from keck.errors import BadRequest
from keck.kinds import kind_named
from keck.settings import Settings

__all__ = ["check"]


def check(
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="Python file that defines ModelNew; - reads stdin.")
    ],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="Python file that defines Model, get_inputs and get_init_inputs."
        ),
    ],
    *,
    device: Device = "auto",
    kind: Kind = "kernel",
    tolerance: Tolerance = "kernelbench",
    profile: Annotated[bool, typer.Option("--profile", help="Also profile both sides.")] = False,
    arch: Arch = "",
    gpu: Gpu = "",
    timed_calls: TimedCalls = 100,
    correctness_sets: CorrectnessSets = 5,
    compile_timeout: CompileTimeout = None,
    exec_timeout: ExecTimeout = None,
    deadline: Deadline = 3600.0,
    run: Annotated[str, typer.Option(help="Name of the run it belongs to.")] = "default",
    check_id: Annotated[str, typer.Option("--id", help="Your own id; empty: a fresh one.")] = "",
    url: Url = "",
    json: Json = False,
) -> None:
    """Judge one candidate against one reference; the exit code says how it ended.

    On a system that is started for it: `keck check candidate.py reference.py --device cpu`

    On one that runs: `keck check candidate.py reference.py --url http://127.0.0.1:8000`

    Whether it is right, and nothing else: `keck check candidate.py reference.py --timed-calls 0`

    The speedup alone: `keck check candidate.py reference.py --json | jq .timing.speedup`
    """
    settings = settings_and_logs()
    if candidate == reference == STDIN:
        raise BadRequest("only one of candidate and reference can be read from stdin")
    kind_named(kind)
    options = options_from(
        {
            "device": device,
            "tolerance": tolerance,
            "profile": profile,
            "arch": arch,
            "gpu": gpu,
            "timed_calls": timed_calls,
            "correctness_sets": correctness_sets,
            "compile_timeout_s": compile_timeout,
            "exec_timeout_s": exec_timeout,
        }
    )
    sources = read_source(candidate, "candidate"), read_source(reference, "reference")
    given = CheckArguments(
        run=run, check_id=check_id, kind=kind, lane="interactive", options=options, deadline_s=deadline
    )
    where = url or settings.url or settings.nats_url
    run_to_exit(_judge(sources, given, where=where, settings=settings, json=json))


async def _judge(
    sources: tuple[str, str], given: CheckArguments, *, where: str, settings: Settings, json: bool
) -> int:
    stages = Stages()
    if where:
        place = judge_there(where, settings=settings)
    else:
        place = judge_here(options_from(given.get("options")), stages, settings=settings)
    async with place as judge:
        event = await judge(sources, given, stages)
    if json:
        print_json(event)
    else:
        print_data(report_of(event))
    return event.verdict.standing.exit_code
