"""Problem details and server-sent events, as the HTTP transport reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from keck import BadRequest, DeadlineExceeded, KeckError, NotFound, QueueFull, Unavailable
from keck._transport._problems import error_of
from keck._transport._sse import server_sent_events


def _answer(status: int, body: object, **headers: str) -> httpx.Response:
    request = httpx.Request("GET", "http://gateway/v1/checks/x")
    return httpx.Response(status, json=body, headers=headers, request=request)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, BadRequest),
        (401, BadRequest),
        (404, NotFound),
        (409, BadRequest),
        (413, BadRequest),
        (429, QueueFull),
        (500, Unavailable),
        (503, Unavailable),
        (504, DeadlineExceeded),
    ],
)
def test_each_status_is_one_of_our_errors_with_the_gateways_words(
    status: int, expected: type[KeckError]
) -> None:
    error = error_of(_answer(status, {"title": "no", "detail": "what to change"}))
    assert type(error) is expected
    assert str(error) == "what to change"


def test_a_full_queue_says_when_to_come_back() -> None:
    error = error_of(_answer(429, {"detail": "full"}, **{"Retry-After": "7"}))
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == 7.0


def test_an_answer_that_is_no_problem_document_still_says_where_it_came_from() -> None:
    error = error_of(_answer(502, "<html>"))
    assert isinstance(error, Unavailable)
    assert str(error) == "http://gateway/v1/checks/x answered 502"


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines():
        yield line


async def test_events_are_read_over_comments_and_several_lines() -> None:
    text = ": hello\n\nevent: progress\ndata: a\ndata: b\n\nid: 3\ndata:c\n\nevent: cut"
    assert [event async for event in server_sent_events(_lines(text))] == [
        ("progress", "a\nb"),
        ("message", "c"),
    ]
