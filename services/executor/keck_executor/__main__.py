"""``keck-executor``: one process per device."""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import re
import sys

from keck.environment import warn_of_unknown_variables
from keck.errors import SettingError
from keck.logs import configure
from keck.service import run_service
from keck.settings import load
from keck.verdict import ExitCode
from keck_executor.placement import place
from keck_executor.service import serve

__all__ = ["main"]


def main() -> None:
    """Read the settings and serve until told to stop."""
    try:
        settings = load()
        placement = place(settings)
    except SettingError as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    configure(settings, service="executor")
    warn_of_unknown_variables()
    host = re.sub(r"[^A-Za-z0-9_-]", "-", platform.node())[:40]
    worker = settings.worker or f"executor-{host}-{os.getpid()}"
    work = functools.partial(serve, settings=settings, placement=placement, worker=worker)
    sys.exit(asyncio.run(run_service(settings, name=worker, main=work)))


if __name__ == "__main__":
    main()
