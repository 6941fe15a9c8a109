"""What the routes have in common: bodies as JSON bytes, documented errors, callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Guard

from keck.messages import to_json
from keck_gateway.desk import Desk
from keck_gateway.problems import PROBLEM_JSON, CallerGone, Problem, UnsupportedMedia, problem_of, retry_after

__all__ = [
    "GatewayRequest",
    "TheDesk",
    "body_of",
    "json_only",
    "json_response",
    "problem_response",
    "problems",
    "unless_gone",
]

GatewayRequest = Request[Any, Any, State]
TheDesk = NamedDependency[Desk]
"""A handler's parameter of this type, named `desk`, is the application's one desk."""
_T = TypeVar("_T")

_WHY = {
    400: "The request cannot be understood; `detail` says what to change.",
    401: "The bearer token is missing or wrong.",
    403: "The Host or Origin header is not this gateway's, or the token's role is not enough.",
    404: "No such check.",
    409: "The check id is in use for other content.",
    413: "The body is too large.",
    414: "The path or the query is too long; sources belong into the body.",
    415: "The body is not JSON by its Content-Type.",
    422: "The task is at fault: its reference fails, or there is none.",
    429: "As much is queued or waits as may; see Retry-After.",
    431: "There are too many headers, or they are too long.",
    503: "No live executor of the needed kind, or the bus is out of reach; see Retry-After.",
    504: "No verdict before the deadline.",
}


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """A struct as JSON, encoded as everywhere else in Keck."""
    return Response(to_json(value), status_code=status, headers=headers, media_type="application/json")


def problem_response(request: GatewayRequest, error: Exception) -> Response[bytes]:
    """Any exception as problem details."""
    problem = problem_of(error, where=f"{request.method} {request.url.path}")
    headers = retry_after(error)
    if allow := (getattr(error, "headers", None) or {}).get("allow"):
        headers["Allow"] = allow
    return Response(to_json(problem), status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Errors for the OpenAPI document; what any request may get is everywhere."""
    return {
        status: ResponseSpec(
            Problem, description=_WHY[status], media_type=PROBLEM_JSON, generate_examples=False
        )
        for status in (400, 401, 403, 414, 431, *statuses)
    }


def body_of(*taken: str) -> Guard:
    """A guard for routes that take these media types: a body that says it is something else is not read as if it were.

    One that says nothing may be of the first, as it may for the original's clients. The guard raises UnsupportedMedia.
    """

    def guard(request: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        given = request.headers.get("content-type", "")
        media_type = given.partition(";")[0].strip().lower()
        if media_type not in ("", *taken):
            raise UnsupportedMedia(f"the body is {media_type[:80]}; send it with `Content-Type: {taken[0]}`")

    return guard


json_only = body_of("application/json")


async def unless_gone(request: GatewayRequest, answer: Awaitable[_T]) -> _T:
    """The answer, given up as soon as the client closes its connection; the body must have been read.

    Raises:
        CallerGone: it did.
    """
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerGone("the client closed its connection")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: GatewayRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
