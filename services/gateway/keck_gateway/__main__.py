"""``python -m keck_gateway``: configured by the environment alone."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from keck import logs, settings
from keck.environment import warn_of_unknown_variables
from keck.errors import SettingError
from keck.service import run_service
from keck.verdict import ExitCode
from keck.worker import Worker
from keck_gateway.guards import require_safe_binding
from keck_gateway.server import bind, tls_files
from keck_gateway.service import raise_open_files_limit, serve
from keck_gateway.tokens import Tokens

__all__ = ["main"]


def main() -> int:
    """Run the gateway; the process's exit code."""
    try:
        effective = settings.load()
        worker = Worker.of(effective, "gateway")
        require_safe_binding(effective)
        tls_files(effective)
        Tokens.of(effective)
        bound = bind(effective.http_host, effective.http_port)
    except SettingError as error:
        sys.stderr.write(f"keck-gateway: {error}\n")
        return ExitCode.USAGE
    logs.configure(effective, service="gateway")
    warn_of_unknown_variables()
    raise_open_files_limit()
    return asyncio.run(
        run_service(effective, name=worker.name, main=partial(serve, settings=effective, bound=bound))
    )


if __name__ == "__main__":
    sys.exit(main())
