"""``keck cancel``: end checks that nobody wants any more."""

from __future__ import annotations

from typing import Annotated

import typer

from keck.cli._run import run_to_exit
from keck.cli._talk import print_data, print_json, say, settings_and_logs
from keck.client import Client
from keck.errors import NotFound
from keck.settings import Settings
from keck.subjects import CheckKey
from keck.verdict import ExitCode

__all__ = ["cancel"]


def cancel(
    check_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the checks.")],
    *,
    run: Annotated[str, typer.Option(help="The run they belong to.")] = "default",
    generation: Annotated[int, typer.Option(help="0 for the checks themselves, above for replays.")] = 0,
    reason: Annotated[str, typer.Option(help="One line for people, which the verdicts repeat.")] = "",
    url: Annotated[
        str,
        typer.Option(help="A gateway or a bus; default KECK_URL, then KECK_NATS_URL, then port 8000 here."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="The verdicts, one line of JSON each.")] = False,
) -> None:
    """End checks wherever they are: waiting, being built or being judged. Exit code 2 if one is not known.

    One check: `keck cancel 1a2131f2f0dd613913343e54 --reason "the step is over"`

    What became of several: `keck cancel ID ID --run step-12 --json | jq -r '[.check_id, .verdict] | @tsv'`
    """
    settings = settings_and_logs()
    keys = [CheckKey(run, check_id, generation) for check_id in check_ids]
    run_to_exit(_cancel(keys, reason=reason, url=url, settings=settings, json=json))


async def _cancel(keys: list[CheckKey], *, reason: str, url: str, settings: Settings, json: bool) -> int:
    code = ExitCode.PASSED
    async with Client(url or None, settings=settings) as client:
        for key in keys:
            try:
                verdict = await client.cancel(key, reason=reason)
            except NotFound as error:
                say(f"keck: {error}")
                code = ExitCode.USAGE
                continue
            if json:
                print_json(verdict)
            else:
                print_data(f"{key.check_id}  {verdict.verdict}  {verdict.message}")
    return code
