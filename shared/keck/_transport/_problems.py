"""RFC 9457 problem details as Keck's own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

from keck.errors import BadRequest, DeadlineExceeded, KeckError, NotFound, QueueFull, Unavailable

__all__ = ["error_for", "error_of"]

_DEFAULT_RETRY_AFTER_S: Final = 5.0
_BY_STATUS: Final[Mapping[int, type[KeckError]]] = {
    404: NotFound,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


class _Problem(msgspec.Struct, frozen=True):
    """The members that we read; others may be there."""

    title: str = ""
    detail: str = ""


def error_of(response: httpx.Response) -> KeckError:
    """The error that a refusal means, with the gateway's own words."""
    return error_for(response.status_code, _words(response), retry_after_s=_retry_after_s(response))


def error_for(status: int, message: str, *, retry_after_s: float | None) -> KeckError:
    """The error that a problem of this HTTP status means."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return QueueFull(
            message, retry_after_s=_DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s
        )
    known = _BY_STATUS.get(status)
    if known is not None:
        return known(message)
    return Unavailable(message) if httpx.codes.is_server_error(status) else BadRequest(message)


def _words(response: httpx.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.ValidationError, msgspec.DecodeError):
        problem = _Problem()
    return problem.detail or problem.title or f"{response.request.url} answered {response.status_code}"


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:  # absent, or the date form
        return None
