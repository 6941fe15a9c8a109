"""The whole system on this machine: nats-server, gateway, compilers and executors as child processes."""

from __future__ import annotations

from keck.embedded._devices import devices_here, gpu_names
from keck.embedded._nats_server import nats_server_binary
from keck.embedded._system import Embedded

__all__ = ["Embedded", "devices_here", "gpu_names", "nats_server_binary"]
