"""One HTTP connection with ends to its patience: uvicorn's own waits for ever on a client that sends nothing.

Slow heads, slow bodies and too many connections are answered here, since none of them reaches the application.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from litestar.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from keck.messages import to_json
from keck_gateway.limits import BODY_TIMEOUT_S, HEAD_TIMEOUT_S, MAX_HEAD_BYTES
from keck_gateway.problems import PROBLEM_JSON, Problem

__all__ = ["BoundedConnection"]

_HARD_LIMIT_FACTOR = 2
"""Above the limit a connection is told so; above this many times the limit it is closed without a word."""


class BoundedConnection(H11Protocol):
    """A connection that must send its requests in time, and is one of a bounded number."""

    limit = 0
    """Connections of one server at once; 0: any number."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._awaited: str = ""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and wait for its first request."""
        super().connection_made(transport)
        if self.limit and len(self.connections) > self.limit:
            if len(self.connections) > self.limit * _HARD_LIMIT_FACTOR:
                transport.abort()
                return
            self.app = _overloaded
        self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._await("")
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has arrived, then wait for whatever part of a request is missing."""
        super().handle_events()
        state = self.conn.their_state
        self._await({h11.IDLE: "head", h11.SEND_BODY: "body"}.get(state, ""))

    def send_400_response(self, msg: str) -> None:
        """The same as a problem."""
        self._refuse(
            HTTPStatus.BAD_REQUEST,
            "bad-request",
            f"this is no HTTP request that can be read, or its head is larger than {MAX_HEAD_BYTES} bytes",
        )

    def _await(self, part: str) -> None:
        """Give a part of a request its time, once, however many pieces it comes in."""
        if part == self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._awaited = part
        if part:
            seconds = HEAD_TIMEOUT_S if part == "head" else BODY_TIMEOUT_S
            self._timer = self.loop.call_later(seconds, self._too_slow, part, seconds)

    def _too_slow(self, part: str, seconds: float) -> None:
        answering = self.cycle is not None and self.cycle.response_started and part == "body"
        if self.transport.is_closing():
            return
        if answering:
            self.transport.close()
            return
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            "too-slow",
            f"the request's {part} did not arrive within {seconds:g} s",
        )

    def _refuse(self, status: HTTPStatus, slug: str, detail: str) -> None:
        body = to_json(
            Problem(type=f"urn:keck:problem:{slug}", title=status.phrase, status=int(status), detail=detail)
        )
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {PROBLEM_JSON}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        # Past h11, whose state may allow nothing any more; nothing follows on this connection.
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Instead of the application, on a connection too many."""
    problem = Problem(
        type="urn:keck:problem:overloaded",
        title=HTTPStatus.SERVICE_UNAVAILABLE.phrase,
        status=int(HTTPStatus.SERVICE_UNAVAILABLE),
        detail="as many connections as may are open on this gateway; close those that are idle, or raise "
        "KECK_MAX_WAITING",
    )
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"retry-after", b"5"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": to_json(problem), "more_body": False})
