"""``python -m keck_executor.runner.zygote FD``: torch imported once, a runner forked per request.

Nothing here may touch the device (a process that has cannot fork another that will) or start a thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from keck_executor.runner.cell import run
from keck_sandbox.zygote import serve

__all__ = ["main"]


def main() -> None:
    """Import what runners need, then fork them."""
    with contextlib.suppress(ImportError):
        # Bindings only: the driver is not woken before a call.
        import cuda.bindings.driver  # noqa: PLC0415
        import cuda.bindings.runtime  # noqa: F401, PLC0415
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        sys.exit(f"{threads} threads after the imports: their locks would not survive a fork")
    serve(socket.socket(fileno=int(sys.argv[1])), run)


if __name__ == "__main__":
    main()
