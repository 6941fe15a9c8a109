"""``python -m keck_compiler.cell.zygote FD [LEAN]``: torch's builders imported once, a build forked per request.

Nothing here may touch a device: a process that has cannot fork another that will.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from keck_compiler.cell import build
from keck_compiler.cell.lean import read_lean
from keck_sandbox.inside.zygote import serve

__all__ = ["main"]


def main() -> None:
    """Import what builds need, then fork them."""
    # At its import the module asks whether there is a GPU, which wakes NVML or the driver: neither survives a fork.
    with mock.patch("torch.cuda.is_available", return_value=True):
        importlib.import_module("torch.utils.cpp_extension")
    if len(sys.argv) > 2:
        read_lean(Path(sys.argv[2]))
    serve(socket.socket(fileno=int(sys.argv[1])), _run)


def _run(argv: Sequence[str], fds: Sequence[int]) -> None:
    build.main(argv)


if __name__ == "__main__":
    main()
