"""``python -m keck_compiler``: the compiler service."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from keck import logs, settings
from keck.containment import establish
from keck.environment import warn_of_unknown_variables
from keck.errors import SettingError
from keck.service import run_service
from keck.verdict import ExitCode
from keck.worker import Worker
from keck_compiler.service import serve

__all__ = ["main"]


def main() -> None:
    """Run the service, configured by the environment, until it is told to stop."""
    try:
        effective = settings.load()
        worker = Worker.of(effective, "compiler")
        logs.configure(effective, service="compiler")
        isolation = establish(effective)
    except SettingError as error:
        sys.stderr.write(f"keck-compiler: {error}\n")
        sys.exit(ExitCode.USAGE)
    warn_of_unknown_variables()

    work = partial(serve, settings=effective, worker=worker, isolation=isolation)
    sys.exit(asyncio.run(run_service(effective, name=worker.name, main=work)))


if __name__ == "__main__":
    main()
