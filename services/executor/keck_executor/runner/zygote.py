"""``python -m keck_executor.runner.zygote FD``: torch imported once, a runner forked per request.

Nothing here may touch the device: a process that has cannot fork another that will.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from keck_executor.runner.cell import run
from keck_sandbox.inside.zygote import serve

__all__ = ["main"]


def main() -> None:
    """Import what runners need, then fork them."""
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(threads) > 1:
        # Harmless as long as they idle, which those that libraries start at import do; told, in case one does not.
        print("threads besides the main one:", ", ".join(threads), flush=True)
    serve(socket.socket(fileno=int(sys.argv[1])), run)


if __name__ == "__main__":
    main()
