"""``keck check``: one candidate against one reference."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal

import typer

from keck.cli._here import check_here
from keck.cli._report import report_of
from keck.cli._run import run_to_exit
from keck.cli._stages import Stages
from keck.cli._talk import print_data, print_json, settings_and_logs
from keck.client import CheckArguments, Client, options_from
from keck.errors import BadRequest, Unavailable
from keck.kinds import kind_named
from keck.messages import CheckProgress, EvalDone
from keck.settings import Settings

__all__ = ["check"]

_STDIN = "-"


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
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run it.")] = "auto",
    kind: Annotated[
        str, typer.Option(help="kernel, or torch for one PyTorch module against another.")
    ] = "kernel",
    tolerance: Annotated[
        Literal["keck", "kernelbench"],
        typer.Option(help="keck: 1e-2 for all; kernelbench: fp32 1e-4, fp16 and bf16 1e-2."),
    ] = "kernelbench",
    profile: Annotated[bool, typer.Option("--profile", help="Also profile both sides.")] = False,
    arch: Annotated[str, typer.Option(help='TORCH_CUDA_ARCH_LIST of the build, such as "9.0".')] = "",
    timed_calls: Annotated[int, typer.Option(help="Timed calls a side; 0: correctness only.")] = 100,
    correctness_sets: Annotated[int, typer.Option(help="Secret input sets compared before timing.")] = 5,
    deadline: Annotated[float, typer.Option(help="Seconds after which nobody wants the verdict.")] = 3600.0,
    run: Annotated[str, typer.Option(help="Name of the run it belongs to.")] = "default",
    check_id: Annotated[str, typer.Option("--id", help="Your own id; empty: a fresh one.")] = "",
    url: Annotated[
        str,
        typer.Option(
            help="A gateway (http://…) or a bus (nats://…); default KECK_URL, then KECK_NATS_URL, "
            "else a private system is started for this check."
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="The verdict as one line of JSON.")] = False,
) -> None:
    """Judge one candidate against one reference; the exit code says how it ended."""
    settings = settings_and_logs()
    if candidate == reference == _STDIN:
        raise BadRequest("only one of candidate and reference can be read from stdin")
    kind_named(kind)
    options = options_from(
        {
            "device": device,
            "tolerance": tolerance,
            "profile": profile,
            "arch": arch,
            "timed_calls": timed_calls,
            "correctness_sets": correctness_sets,
        }
    )
    sources = _source(candidate, "candidate"), _source(reference, "reference")
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
        event = await _check_there(sources, given, stages, where=where, settings=settings)
    else:
        event = await check_here(sources, given, stages, settings=settings)
    if json:
        print_json(event)
    else:
        print_data(report_of(event))
    return event.verdict.standing.exit_code


async def _check_there(
    sources: tuple[str, str], given: CheckArguments, stages: Stages, *, where: str, settings: Settings
) -> EvalDone:
    """Through a system that runs already."""
    async with (
        Client(where, settings=settings) as client,
        aclosing(client.follow(*sources, **given)) as events,
    ):
        async for event in events:
            if isinstance(event, EvalDone):
                return event
            stages.show(event)
            await _warn_if_unserved(client, event, stages)
    raise Unavailable(f"{where} ended the check's events without a verdict")


async def _warn_if_unserved(client: Client, event: CheckProgress, stages: Stages) -> None:
    if event.stage != "compiled" or not event.target:
        return
    executors = await client.executors()
    served = any(
        worker.target == event.target or (event.target == "cuda-any" and worker.target.startswith("sm"))
        for worker in executors
    )
    if not served:
        stages.note(f"no live executor serves {event.target}: the build waits for one until the deadline")


def _source(path: str, side: str) -> str:
    """The text of a file, or of stdin.

    Raises:
        BadRequest: it cannot be read.
    """
    try:
        return sys.stdin.read() if path == _STDIN else Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadRequest(f"there is no file {path} (the {side})") from None
    except IsADirectoryError:
        raise BadRequest(f"{path} is a directory; the {side} must be a Python file") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} (the {side}) is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise BadRequest(f"cannot read {path} (the {side}): {error.strerror}") from None
