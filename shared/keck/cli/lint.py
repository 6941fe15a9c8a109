"""``keck lint``: what references are worth as tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from keck.cli._here import Judge, judge_here
from keck.cli._lint_report import Linted, details_of, table_of
from keck.cli._options import Deadline, Device, Tolerance, Url
from keck.cli._run import run_to_exit
from keck.cli._sources import STDIN, read_source
from keck.cli._stages import Silent, Stages
from keck.cli._talk import print_data, print_json, settings_and_logs
from keck.cli._there import judge_there
from keck.client import LintArguments, lint_arguments, options_from
from keck.errors import BadRequest
from keck.messages import Options
from keck.settings import Settings
from keck.verdict import ExitCode

__all__ = ["lint"]

_AT_ONCE = 4
"""As many checks are on their way at a time: the next is prepared while one is judged."""


def lint(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="Python file that defines Model, get_inputs and get_init_inputs; - reads stdin; a directory: all such "
            "files below it.",
        ),
    ],
    *,
    device: Device = "auto",
    tolerance: Tolerance = "kernelbench",
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance instead of the preset's.")] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance instead of the preset's.")] = None,
    correctness_sets: Annotated[int, typer.Option(help="Secret input sets that are drawn.")] = 5,
    deadline: Deadline = 3600.0,
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for each reference.")] = False,
) -> None:
    """Say whether an answer that computes nothing would pass for a reference's; exits 0 sound, 1 weak or failing.

    Zeros, a constant, the answer to other inputs and the input itself are tried under the tolerance of the check,
    and, where one passes, by the scale-aware comparison that takes over.

    One task, with all that was tried: `keck lint task.py`

    A folder of tasks as a table, at 1e-2, on a GPU: `keck lint tasks/ --tolerance keck --device cuda`

    Those that are not sound: `keck lint tasks/ --json | jq -r 'select(.status != "sound").reference'`
    """
    settings = settings_and_logs()
    options = options_from(
        {
            "device": device,
            "tolerance": tolerance,
            "atol": atol,
            "rtol": rtol,
            "correctness_sets": correctness_sets,
        }
    )
    given = LintArguments(options=options, deadline_s=deadline)
    where = url or settings.url or settings.nats_url
    run_to_exit(_lint(_references(reference), given, options, where=where, settings=settings, json=json))


async def _lint(
    references: dict[str, str],
    given: LintArguments,
    options: Options,
    *,
    where: str,
    settings: Settings,
    json: bool,
) -> int:
    alone = len(references) == 1
    stages = Stages()
    place = judge_there(where, settings=settings) if where else judge_here(options, stages, settings=settings)
    async with place as judge:
        each = stages if alone else Silent()
        room = asyncio.Semaphore(_AT_ONCE)

        async def lint_one(name: str, source: str) -> Linted:
            async with room:
                found = await _linted(judge, name, source, given, each)
            if not alone:
                stages.note(f"{found.status}: {name}")
            return found

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(lint_one(name, source)) for name, source in references.items()]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
    found = [task.result() for task in tasks]
    if json:
        for one in found:
            print_json(one)
    else:
        print_data(details_of(found[0]) if alone else table_of(found))
    return max((one.exit_code for one in found), default=ExitCode.PASSED)


async def _linted(judge: Judge, name: str, source: str, given: LintArguments, stages: Stages) -> Linted:
    return Linted.of(name, await judge((source, source), lint_arguments(given), stages))


def _references(path: str) -> dict[str, str]:
    """The sources to lint by their names, in order.

    Raises:
        BadRequest: there is none, or one cannot be read.
    """
    if path == STDIN or not Path(path).is_dir():
        return {path: read_source(path, "reference")}
    # Other files lie beside them: packages' __init__, helpers, candidates.
    files = [file for file in sorted(Path(path).rglob("*.py")) if b"get_inputs" in _bytes(file)]
    if not files:
        raise BadRequest(f"no Python file below {path} mentions get_inputs")
    return {str(file): read_source(str(file), "reference") for file in files}


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from None
