"""``keck replay``: checks done again, as a new generation."""

from __future__ import annotations

import json as json_module
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import typer

from keck.cli._run import run_to_exit
from keck.cli._talk import print_data, print_json, say, settings_and_logs, stderr
from keck.client import Client
from keck.errors import BadRequest
from keck.messages import Replay, ReplayProgress
from keck.settings import Settings
from keck.verdict import ExitCode

__all__ = ["replay"]


def replay(
    *,
    source: Annotated[
        Literal["eval.done", "compile.done", "check.requested"],
        typer.Option(
            "--from",
            help="eval.done: score stored verdicts under another policy; compile.done: judge stored builds again; "
            "check.requested: do everything again.",
        ),
    ],
    run: Annotated[str, typer.Option(help="Only this run; empty: all.")] = "",
    check_id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this check; may be repeated.")
    ] = None,
    verdict: Annotated[
        list[str] | None, typer.Option(help="Only checks that ended so; may be repeated.")
    ] = None,
    since: Annotated[str, typer.Option(help="Stored then or later: ISO 8601 or Unix seconds.")] = "",
    until: Annotated[str, typer.Option(help="Stored before then.")] = "",
    first_sequence: Annotated[int, typer.Option(help="From this sequence of the stream on.")] = 1,
    last_sequence: Annotated[int | None, typer.Option(help="Up to this sequence of the stream.")] = None,
    generation: Annotated[int, typer.Option(help="The generation that is taken.")] = 0,
    to_generation: Annotated[
        int | None,
        typer.Option(
            help="The generation that is made, to go on with a replay that was interrupted; else a new one."
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="The policy; the same as --set policy=….")] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="An option that is to differ, such as tolerance=keck or atol=0.01; may be repeated."
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Checks a second, at most.")] = None,
    limit: Annotated[int | None, typer.Option(help="Checks, at most.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds each check has from when it is queued.")] = 3600.0,
    url: Annotated[
        str,
        typer.Option(help="A gateway or a bus; default KECK_URL, then KECK_NATS_URL, then port 8000 here."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="The outcome as one line of JSON.")] = False,
) -> None:
    """Do stored checks again as a new generation; what there is already stays. Live work goes first.

    A run's verdicts under another policy: `keck replay --from eval.done --run step-12 --policy custom-only`

    What a broken machine judged, judged again: `keck replay --from compile.done --verdict infra_error --since 2026-11-25`

    How far one got: `keck replay --from check.requested --run step-12 --json | jq .made`
    """
    settings = settings_and_logs()
    options = dict(map(_change, changes or []))
    if policy:
        options["policy"] = policy
    given = {
        "source": source,
        "run": run or None,
        "check_ids": check_id or [],
        "verdicts": verdict or [],
        "since": _moment(since, "since"),
        "until": _moment(until, "until"),
        "first_sequence": first_sequence,
        "last_sequence": last_sequence,
        "generation": generation,
        "to_generation": to_generation,
        "options": options,
        "rate": rate,
        "limit": limit,
        "deadline_s": deadline,
    }
    try:
        order = msgspec.convert(given, Replay)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    run_to_exit(_replay(order, url=url, settings=settings, json=json))


async def _replay(order: Replay, *, url: str, settings: Settings, json: bool) -> int:
    last: ReplayProgress | None = None
    with stderr().status("replaying") as status:
        async with Client(url or None, settings=settings) as client:
            async for progress in client.replay(order):
                last = progress
                status.update(_line(progress))
    if last is None or not last.finished:
        reason = last.error if last is not None and last.error else "the gateway went away"
        again = f"; --to-generation {last.generation} goes on" if last is not None else ""
        say(f"keck: the replay ended early: {reason}{again}")
    if last is None:
        return ExitCode.INFRASTRUCTURE
    if json:
        print_json(last)
    else:
        print_data(_line(last))
        for change, count in sorted(last.changed.items()):
            print_data(f"{count:>8}  {change}")
    return ExitCode.PASSED if last.finished else ExitCode.INFRASTRUCTURE


def _line(progress: ReplayProgress) -> str:
    parts = [
        f"generation {progress.generation}: {progress.made} made",
        f"{progress.known} there already",
        f"{progress.read} events read",
        f"up to sequence {progress.last_sequence}",
    ]
    if progress.unreadable:
        parts.append(f"{progress.unreadable} unreadable")
    return ", ".join(parts)


def _change(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON is what it says, any other is a word."""
    name, separator, value = text.partition("=")
    if not separator:
        raise BadRequest(f"--set {text}: write NAME=VALUE")
    try:
        return name, json_module.loads(value)
    except ValueError:
        return name, value


def _moment(text: str, option: str) -> float | None:
    """Unix seconds of a moment as people write it; without a zone it is this machine's."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadRequest(f"--{option} {text}: must be ISO 8601 (2026-11-25T13:00) or Unix seconds") from None
