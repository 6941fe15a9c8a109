"""uvicorn inside our own life cycle: our socket, our signals, our logs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from litestar.types import ASGIApp

from keck.errors import SettingError
from keck.settings import Settings
from keck.tls import certificate_files
from keck_gateway.connection import BoundedConnection
from keck_gateway.limits import MAX_HEAD_BYTES

__all__ = ["HttpServer", "bind", "tls_files", "url_of"]

_BACKLOG = 4096
"""Connections not accepted yet: a trainer's whole batch may arrive at once."""
_GRACEFUL_S = 5


def bind(host: str, port: int) -> socket.socket:
    """A socket with this address, which nobody can connect to before it is served; port 0: any free one.

    Raises:
        SettingError: the address cannot be used.
    """
    name = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((name, port))
    except OSError as error:
        bound.close()
        raise SettingError(
            f"cannot listen on {host}:{port}: {error.strerror}; set KECK_HTTP_HOST and KECK_HTTP_PORT"
        ) from error
    return bound


def tls_files(settings: Settings) -> tuple[Path, Path] | None:
    """The gateway's certificate and key, if it has them.

    Raises:
        SettingError: they cannot be used.
    """
    return certificate_files(
        ("KECK_HTTP_TLS_CERT", settings.http_tls_cert), ("KECK_HTTP_TLS_KEY", settings.http_tls_key)
    )


def url_of(bound: socket.socket, *, encrypted: bool = False) -> str:
    """Where a caller on this machine finds the socket, or, on one address beyond loopback, anybody."""
    host, port = bound.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1"
    scheme = "https" if encrypted else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class HttpServer:
    """Serves an ASGI application on a socket; with a certificate and its key, HTTPS and nothing else."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        *,
        max_connections: int,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=type("Connection", (BoundedConnection,), {"limit": max_connections}),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_GRACEFUL_S,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        self._server = _Server(config)
        self._socket = bound

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.Task[None]]:
        """Accept while the block runs; afterwards finish what is being answered."""
        task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")
        try:
            await self._server.accepting.wait()
            yield task
        finally:
            self.stop_accepting()
            await task

    def stop_accepting(self) -> None:
        """Take no more connections; those in hand are finished."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM and SIGINT to the service, which stops waiters before connections."""
        yield
