"""RFC 9457 problem details as Keck's own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import httpx
import msgspec

from keck.errors import BadRequest, DeadlineExceeded, KeckError, NotFound, QueueFull, Unavailable
from keck.messages import DECODING_ERRORS, EvalDone, ReplayProgress, decode

__all__ = ["error_for", "error_of", "read_reply"]

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
    status: int = 500


class _Refusal(msgspec.Struct, frozen=True):
    """What a request on the bus gets instead of an answer."""

    error: _Problem


_E = TypeVar("_E", EvalDone, ReplayProgress)


def error_of(response: httpx.Response) -> KeckError:
    """The error that a refusal means, with the gateway's own words."""
    return error_for(response.status_code, _words(response), retry_after_s=_retry_after_s(response))


def read_reply(data: bytes, expect: type[_E]) -> _E:
    """What a gateway answered on the bus.

    Raises:
        KeckError: what it refused.
    """
    try:
        return decode(data, expect)
    except BadRequest:
        try:
            problem = msgspec.msgpack.decode(data, type=_Refusal).error
        except DECODING_ERRORS:
            raise Unavailable("the gateway's answer cannot be read: is it of another version?") from None
    raise error_for(problem.status, problem.detail or problem.title, retry_after_s=None)


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
