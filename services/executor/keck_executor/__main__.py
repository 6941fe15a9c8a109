"""``keck-executor``: one process per device."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from keck.containment import establish
from keck.environment import warn_of_unknown_variables
from keck.errors import SettingError
from keck.logs import configure
from keck.service import run_service
from keck.settings import load
from keck.verdict import ExitCode
from keck.worker import Worker
from keck_executor.placement import place
from keck_executor.service import serve

__all__ = ["main"]


def main() -> None:
    """Read the settings and serve until told to stop."""
    try:
        settings = load()
        worker = Worker.of(settings, "executor")
        placement = place(settings)
        configure(settings, service="executor")
        isolation = establish(settings, env=placement.env, devices=placement.devices)
    except SettingError as error:
        sys.stderr.write(f"keck-executor: {error}\n")
        sys.exit(ExitCode.USAGE)
    warn_of_unknown_variables()
    work = partial(serve, settings=settings, placement=placement, worker=worker, isolation=isolation)
    sys.exit(asyncio.run(run_service(settings, name=worker.name, main=work)))


if __name__ == "__main__":
    main()
