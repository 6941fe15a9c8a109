"""The commands put together, and what becomes of an error."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from keck._version import __version__
from keck.cli._talk import say
from keck.cli.batch import batch
from keck.cli.cancel import cancel
from keck.cli.check import check
from keck.cli.config import config
from keck.cli.doctor import doctor
from keck.cli.lint import lint
from keck.cli.nats_config import nats_config
from keck.cli.replay import replay
from keck.cli.top import top
from keck.cli.up import up
from keck.cli.watch import watch
from keck.errors import BadRequest, KeckError, SettingError
from keck.verdict import ExitCode

__all__ = ["app", "main"]

app = typer.Typer(
    name="keck",
    help="Judge GPU kernels: correct or not, how fast, and the evidence.\n\n"
    "Exit codes: 0 passed, 1 the candidate failed, 2 usage, 3 infrastructure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(check)
app.command()(batch)
app.command()(lint)
app.command()(cancel)
app.command()(replay)
app.command()(up)
app.command()(watch)
app.command()(top)
app.command()(config)
app.command()(doctor)
app.command()(nats_config)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"keck {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; ends the process."""
    try:
        app()
    except (BadRequest, SettingError) as error:
        say(f"keck: {error}")
        sys.exit(ExitCode.USAGE)
    except KeckError as error:
        say(f"keck: {error}")
        sys.exit(ExitCode.INFRASTRUCTURE)
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more when it flushes at exit.
        sys.stderr.close()
        sys.exit(ExitCode.INFRASTRUCTURE)
