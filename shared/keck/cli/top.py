"""``keck top``: who works, and what waits."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keck.cli._options import Url
from keck.cli._run import run_to_exit
from keck.cli._talk import plain, print_data, print_json, settings_and_logs, stderr, stdout
from keck.client import Client
from keck.load import Load
from keck.messages import Heartbeat
from keck.settings import Settings
from keck.verdict import ExitCode

__all__ = ["top"]

_STATES = {"ready": "green", "draining": "yellow", "quarantined": "red"}


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="One look, and no more.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for each look.")] = False,
) -> None:
    """Show workers, queues and the rate of verdicts, again and again until Ctrl-C; once where this is no terminal.

    How full it is: `keck top`

    Whether anything waits for a GPU: `keck top --once --json | jq '[.queues[] | select(.stage == "execute").waiting] | add'`

    Which executors take no work: `keck top --once --json | jq -r '.workers[] | select(.state != "ready").worker'`
    """
    settings = settings_and_logs()
    once = once or not (json or stdout().is_terminal)
    run_to_exit(_top(url, settings, once=once, every_s=every, json=json))


async def _top(url: str, settings: Settings, *, once: bool, every_s: float, json: bool) -> int:
    async with Client(url or None, settings=settings) as client:
        load = await client.load()
        if json:
            print_json(load)
            while not once:
                await asyncio.sleep(every_s)
                print_json(await client.load())
        elif once:
            print_data(_as_text(load))
        else:
            with Live(_shown(load, None), console=stderr(), auto_refresh=False, screen=True) as live:
                while True:
                    await asyncio.sleep(every_s)
                    before, load = load, await client.load()
                    live.update(_shown(load, before), refresh=True)
    return ExitCode.PASSED


def _as_text(load: Load) -> Text:
    """The same without a terminal: plain columns, of the width that they need."""
    console = stdout()
    console.width = 200
    with console.capture() as captured:
        console.print(_shown(load, None))
    return Text("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()))


def _shown(load: Load, before: Load | None) -> Group:
    return Group(Text(_headline(load, before), style="bold"), _workers(load.workers), _queues(load))


def _headline(load: Load, before: Load | None) -> str:
    executors = [worker for worker in load.workers if worker.role == "executor"]
    parts = [
        f"{len(executors)} executor{'s' * (len(executors) != 1)}, {sum(worker.busy for worker in executors)} busy"
    ]
    if load.queues is not None:
        waiting = {
            stage: sum(queue.waiting for queue in load.queues if queue.stage == stage)
            for stage in ("compile", "execute")
        }
        parts.append(f"{waiting['compile']} wait for a compiler, {waiting['execute']} for an executor")
    if load.verdicts is not None:
        told = f"{load.verdicts} verdicts"
        if before is not None and before.verdicts is not None and load.at > before.at:
            told += f", {60 * (load.verdicts - before.verdicts) / (load.at - before.at):.0f} a minute"
        parts.append(told)
    return "; ".join(parts)


def _workers(workers: list[Heartbeat]) -> Table:
    table = _table("worker", "role", "state", "busy", "host", "device")
    for worker in workers:
        table.add_row(
            plain(worker.worker),
            worker.role,
            Text(worker.state, style=_STATES.get(worker.state, "")),
            f"{worker.busy}/{worker.slots}" if worker.slots else "",
            plain(worker.host),
            plain(str(worker.facts.get("gpu") or worker.target)),
        )
    return table


def _queues(load: Load) -> Table:
    table = _table("queue", "lane", "waiting", "in hand")
    for queue in load.queues or []:
        name = f"{queue.stage} {queue.target}".rstrip()
        table.add_row(name, queue.lane, str(queue.waiting), str(queue.in_hand))
    if load.queues is None:
        table.add_row("this user may not ask for queues", "", "", "")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
