"""What a runner does from its first line on, whether it was started or forked."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Sequence
from unittest import mock

import torch

from keck_executor.runner.serve import Runner
from keck_executor.runner.wire import Reply, Status, pack_reply

__all__ = ["run"]

# At its import the module asks whether there is a GPU, which wakes NVML or the driver: neither survives the fork
# of a zygote (seen on an H200: NVML cannot be had in the child, and torch dies of an internal assertion in the
# place of OutOfMemoryError).
with mock.patch("torch.cuda.is_available", return_value=True):
    importlib.import_module("torch.utils.cpp_extension")


def run(argv: Sequence[str], fds: Sequence[int]) -> None:
    """Warm up on device ``argv[0]``, say so, and serve the judge at socket ``fds[0]`` until it hangs up."""
    sock = socket.socket(fileno=fds[0])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    # A zygote runs on one thread, for threads do not survive a fork.
    torch.set_num_threads(int(os.environ.get("KECK_RUNNER_THREADS", "1")))
    device = torch.device(argv[0])
    _warm(device)
    sock.send(pack_reply(Reply(0, Status.READY)))  # a candidate's time does not count before this
    Runner(sock, device).serve()


def _warm(device: torch.device) -> None:
    """Make the context, and load the kernels that every check needs: the driver loads each at its first use."""
    numbers = torch.rand(16, device=device) + torch.randn(16, device=device)
    numbers.view(4, 4).t().copy_(torch.zeros(4, 4, device=device))
    torch.randint(0, 2, (16,), device=device)
    if device.type == "cuda":
        torch.cuda.synchronize()
