"""Errors as RFC 9457 problem details, on HTTP and on NATS alike."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec
from litestar.exceptions import HTTPException

from keck.errors import (
    BadRequest,
    DeadlineExceeded,
    KeckError,
    Misaddressed,
    NotFound,
    NotJudged,
    QueueFull,
    Unavailable,
)
from keck.logs import logger

__all__ = [
    "MAX_BODY_BYTES",
    "PROBLEM_JSON",
    "RETRY_LATER",
    "BodyTooLarge",
    "CallerGone",
    "Conflict",
    "Problem",
    "ShuttingDown",
    "Unjudgeable",
    "UnsupportedMedia",
    "problem_of",
    "retry_after",
    "retry_after_s",
]

PROBLEM_JSON = "application/problem+json"
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Largest request body: two sources of the largest size with room for their escapes."""


_RETRY_LATER_S = 5
RETRY_LATER = {"Retry-After": str(_RETRY_LATER_S)}
"""For failures that pass by themselves."""


class Conflict(KeckError):
    """The id is in use for other content."""


class BodyTooLarge(KeckError):
    """More was sent than is taken at once."""


class UnsupportedMedia(KeckError):
    """The body is of a type that this route does not take."""


class Unjudgeable(KeckError):
    """The task is at fault: asking again does not help."""


class ShuttingDown(Unavailable):
    """This gateway is about to end; another, or the next, answers."""


class CallerGone(KeckError):
    """The client closed its connection before there was an answer."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


_KINDS: dict[type[KeckError], tuple[HTTPStatus, str, str]] = {
    Misaddressed: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The stored verdict is another check's"),
    BadRequest: (HTTPStatus.BAD_REQUEST, "bad-request", "The request cannot be understood"),
    Conflict: (HTTPStatus.CONFLICT, "id-in-use", "The check id is in use"),
    BodyTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "More was sent than is taken at once"),
    UnsupportedMedia: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another type"),
    NotJudged: (HTTPStatus.SERVICE_UNAVAILABLE, "not-judged", "There is no verdict on a sample"),
    Unjudgeable: (HTTPStatus.UNPROCESSABLE_ENTITY, "task", "The task cannot be judged against"),
    NotFound: (HTTPStatus.NOT_FOUND, "not-found", "No such check"),
    QueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "overloaded", "As much is waiting as may"),
    Unavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Nobody can do this now"),
    DeadlineExceeded: (HTTPStatus.GATEWAY_TIMEOUT, "deadline", "No verdict in time"),
    CallerGone: (HTTPStatus.SERVICE_UNAVAILABLE, "caller-gone", "The client left"),
}


def problem_of(error: Exception, *, where: str = "") -> Problem:
    """The problem to tell the caller; `where` is the method and path, for routes that do not exist."""
    match error:
        case KeckError():
            return _of_keck_error(error)
        case HTTPException():
            return _of_http_error(error, where)
        # Litestar passes on what its JSON decoder raises beside its own errors.
        case RecursionError():
            return _problem(HTTPStatus.BAD_REQUEST, "bad-request", detail="the body is nested too deeply")
        case UnicodeDecodeError():
            return _problem(HTTPStatus.BAD_REQUEST, "bad-request", detail=f"the body is not UTF-8: {error}")
        case _:
            # This is the loop boundary of a request: whatever is unforeseen is logged here, once.
            logger().error("request_failed", where=where, exc_info=error)
            return _problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal",
                detail="an error of the gateway's own; its log has the details",
            )


def retry_after(error: Exception) -> dict[str, str]:
    """The ``Retry-After`` header where asking again makes sense; empty where it does not."""
    seconds = retry_after_s(error)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def retry_after_s(error: Exception) -> int | None:
    """Whole seconds after which asking again makes sense; None where it does not."""
    match error:
        case QueueFull(retry_after_s=seconds):
            return max(1, math.ceil(seconds))
        case ShuttingDown():
            return 1
        case Unavailable() | NotJudged():
            return _RETRY_LATER_S
        case _:
            return None


def _of_keck_error(error: KeckError) -> Problem:
    for kind, (status, slug, title) in _KINDS.items():
        if isinstance(error, kind):
            return _problem(status, slug, title=title, detail=str(error))
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail=str(error))


def _of_http_error(error: HTTPException, where: str) -> Problem:
    status = HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NOT_FOUND:
            detail = f"there is no {where}; /docs lists what there is"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("allow", "another method")
            detail = f"{where} does not exist; use {allowed}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"the body is larger than {MAX_BODY_BYTES} bytes; send less source"
        case _:
            detail = _validation_detail(error)
    return _problem(status, status.phrase.lower().replace(" ", "-"), detail=detail)


def _validation_detail(error: HTTPException) -> str:
    """Litestar keeps what is wrong with which field beside its message; people need both in one sentence."""
    found = error.extra if isinstance(error.extra, list) else []
    parts = [
        f"{item.get('source', 'body')}: {_place(item)}{item['message']}"
        for item in found
        if isinstance(item, dict) and "message" in item
    ]
    return "; ".join(parts) or error.detail


def _place(item: dict[str, object]) -> str:
    key = item.get("key", "data")
    return "" if key == "data" else f"`{key}`: "


def _problem(status: HTTPStatus, slug: str, *, detail: str, title: str = "") -> Problem:
    return Problem(
        type=f"urn:keck:problem:{slug}", title=title or status.phrase, status=int(status), detail=detail
    )
