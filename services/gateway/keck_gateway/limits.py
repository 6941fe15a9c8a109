"""How much of anything one request may have: said in one place, answered before the request is looked at."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from litestar.types import HTTPScope

from keck_gateway.problems import Problem

__all__ = [
    "BODY_TIMEOUT_S",
    "HEAD_TIMEOUT_S",
    "MAX_FORM_FIELDS",
    "MAX_HEAD_BYTES",
    "connections_for",
    "too_much",
]

MAX_PATH_BYTES: Final = 1_024
"""The longest path there is has a check id of 64 letters in it."""
MAX_QUERY_BYTES: Final = 2_048
MAX_HEADERS: Final = 64
MAX_HEADERS_BYTES: Final = 16 * 1_024
MAX_HEAD_BYTES: Final = 32 * 1_024
"""Request line and headers before they are a request at all; above it the connection is closed."""
MAX_FORM_FIELDS: Final = 16
"""A form has two; a few more are somebody's own."""
HEAD_TIMEOUT_S: Final = 30.0
"""From a connection's first byte, or from its being made, to the end of a request's headers."""
BODY_TIMEOUT_S: Final = 120.0
"""For the whole body: 2 MiB at 18 kB/s."""
_SPARE_CONNECTIONS: Final = 512


def connections_for(max_waiting: int) -> int:
    """Connections held at once: those who may wait, as many again that ask or are kept alive, and some more."""
    return 2 * max_waiting + _SPARE_CONNECTIONS


def too_much(scope: HTTPScope) -> Problem | None:
    """What is wrong with the size of a request's head, if anything."""
    path, query = len(scope.get("raw_path") or b""), len(scope["query_string"])
    if path > MAX_PATH_BYTES or query > MAX_QUERY_BYTES:
        return _problem(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            "uri-too-long",
            f"the path has {path} bytes and the query {query}; at most {MAX_PATH_BYTES} and {MAX_QUERY_BYTES} "
            "are taken: sources belong into the body",
        )
    sizes = [len(name) + len(value) for name, value in scope["headers"]]
    count, size = len(sizes), sum(sizes)
    if count > MAX_HEADERS or size > MAX_HEADERS_BYTES:
        return _problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            f"there are {count} headers of {size} bytes; at most {MAX_HEADERS} of {MAX_HEADERS_BYTES} are taken",
        )
    return None


def _problem(status: HTTPStatus, slug: str, detail: str) -> Problem:
    return Problem(type=f"urn:keck:problem:{slug}", title=status.phrase, status=int(status), detail=detail)
