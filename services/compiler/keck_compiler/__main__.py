"""``python -m keck_compiler``: the compiler service."""

from __future__ import annotations

import asyncio
import sys

from keck import logs, settings
from keck.bus import Bus
from keck.environment import warn_of_unknown_variables
from keck.errors import SettingError
from keck.service import run_service
from keck.verdict import ExitCode
from keck_compiler.service import serve, worker_name

__all__ = ["main"]


def main() -> None:
    """Run the service, configured by the environment, until it is told to stop."""
    try:
        effective = settings.load()
    except SettingError as error:
        sys.stderr.write(f"keck-compiler: {error}\n")
        sys.exit(ExitCode.USAGE)
    logs.configure(effective, service="compiler")
    warn_of_unknown_variables()

    async def work(bus: Bus, stop: asyncio.Event) -> None:
        await serve(bus, stop, effective)

    sys.exit(asyncio.run(run_service(effective, name=worker_name(effective), main=work)))


if __name__ == "__main__":
    main()
