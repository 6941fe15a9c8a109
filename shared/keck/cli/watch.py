"""``keck watch``: what happens to checks, as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated

import typer
from rich.text import Text

from keck.cli._options import Url
from keck.cli._run import run_to_exit
from keck.cli._talk import plain, print_data, print_json, say, settings_and_logs
from keck.client import Client
from keck.messages import CheckProgress, EvalDone
from keck.settings import Settings
from keck.subjects import CheckKey
from keck.verdict import ExitCode, Fault

__all__ = ["watch"]

_Tell = Callable[[CheckProgress | EvalDone], None]
_STYLES = {Fault.NOBODY: "bold green", Fault.CANDIDATE: "bold red"}


def watch(
    check_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECK_ID]...", help="Checks to follow; none: the whole run."),
    ] = None,
    *,
    run: Annotated[str, typer.Option(help="The run that they belong to.")] = "default",
    generation: Annotated[int, typer.Option(min=0, help="Of the checks; above 0: replays.")] = 0,
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="Verdicts only, without the stages before.")
    ] = False,
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for each event.")] = False,
) -> None:
    """Say what happens to checks: their stages, and the verdict, until each has one; or a whole run, until Ctrl-C.

    Of checks the exit code is the worst of their verdicts', as of `keck check`. A check that is decided is told at once;
    of a run only what happens from now on.

    One check until its verdict: `keck watch 1a203c13d6e0eeaafcb682c4`

    All of a run, as it comes: `keck watch --run training`

    Failures of a run, as lines of JSON: `keck watch --run training --verdicts --json | jq -c 'select(.correct != true)'`
    """
    settings = settings_and_logs()
    keys = [CheckKey(run, check_id, generation) for check_id in check_ids or []]
    run_to_exit(_watch(keys, run, url=url, settings=settings, json=json, verdicts=verdicts))


async def _watch(
    keys: list[CheckKey], run: str, *, url: str, settings: Settings, json: bool, verdicts: bool
) -> int:
    def tell(event: CheckProgress | EvalDone) -> None:
        if verdicts and not isinstance(event, EvalDone):
            return
        if json:
            print_json(event)
        else:
            print_data(_line(event))

    async with Client(url or None, settings=settings) as client:
        if not keys:
            await client.executors()  # says at once if nobody is there
            say(f"keck: watching the run {run}; Ctrl-C ends it")
            await _until_verdict(client.watch(run), tell)
            return ExitCode.PASSED
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_until_verdict(client.events(key), tell)) for key in keys]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
    return max(task.result() for task in tasks)


async def _until_verdict(events: AsyncGenerator[CheckProgress | EvalDone, None], tell: _Tell) -> int:
    """Tell of each; the exit code of the last verdict, when the events end."""
    code = ExitCode.INFRASTRUCTURE
    async with aclosing(events):
        async for event in events:
            tell(event)
            if isinstance(event, EvalDone):
                code = event.verdict.standing.exit_code
    return code


def _line(event: CheckProgress | EvalDone) -> Text:
    text = Text(f"{event.check_id}  ")
    if isinstance(event, EvalDone):
        style = _STYLES.get(event.verdict.standing.fault, "bold yellow")
        text.append(f"{event.verdict:<17}", style=style)
    else:
        text.append(f"{event.stage:<17}", style="dim")
    return text.append(f"  {plain(event.message)}")
