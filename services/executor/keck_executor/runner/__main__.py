"""``python -m keck_executor.runner FD cpu|cuda``: the contained side of a check.

Everything slow that needs no user code happens before the first command: imports, the device's context.
"""

from __future__ import annotations

import logging
import socket
import sys

# Told to every candidate's log otherwise: that no GPU is there for builds, which never happen here.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

import torch
import torch.utils.cpp_extension

from keck_executor.runner.serve import Runner
from keck_executor.runner.wire import Reply, Status, pack_reply

__all__ = ["main"]


def main() -> None:
    """Warm up, then serve until the judge hangs up."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    device = torch.device(sys.argv[2])
    torch.zeros(1, device=device)
    sock.send(pack_reply(Reply(0, Status.READY)))  # warm: a candidate's time does not count before this
    Runner(sock, device).serve()


if __name__ == "__main__":
    main()
