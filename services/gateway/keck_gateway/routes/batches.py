"""``POST /v1/batches``: many checks on one connection, as lines of JSON both ways."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from litestar import post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.types import ASGIApp, Receive, Scope, Send

from keck_gateway.batch import Batch, BatchProblem, BatchVerdict
from keck_gateway.desk import Desk
from keck_gateway.routes._answers import TheDesk, body_of, problems

__all__ = ["batch"]

_NDJSON: Final = "application/x-ndjson"
_TAKEN: Final = (_NDJSON, "application/ndjson", "application/jsonl", "application/json")


class BatchAnswer:
    """Reads lines and writes lines at the same time, which no response of the framework's does."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what was stored is judged also if its caller leaves."""
        batch = Batch(self._desk)
        reading = asyncio.create_task(_read(batch, receive))
        writing = asyncio.create_task(_write(batch, send))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            await batch.give_up()


@dataclass
class _BatchOperation(Operation):
    def __post_init__(self) -> None:
        """Lines are no schema; the body of one is that of ``POST /v1/checks``."""
        text = Schema(
            type=OpenAPIType.STRING,
            description="A line of JSON for each check, as the body of `POST /v1/checks`.",
        )
        self.request_body = RequestBody(required=True, content={_NDJSON: OpenAPIMediaType(schema=text)})


@post(
    "/v1/batches",
    status_code=200,
    request_max_body_size=None,
    guards=[body_of(*_TAKEN)],
    summary="Submit many checks",
    operation_id="submitBatch",
    operation_class=_BatchOperation,
    tags=["checks"],
    media_type=_NDJSON,
    responses={
        200: ResponseSpec(
            BatchVerdict | BatchProblem,
            description="One line for each check, in the order in which they are decided: its verdict (`type` is "
            "`eval.done`) or why there is none (`type` begins with `urn:keck:problem:`), and `line`.",
            media_type=_NDJSON,
            generate_examples=False,
        ),
        **problems(415, 429, 503),
    },
)
async def batch(desk: TheDesk) -> ASGIApp:
    """Submit up to 1,024 checks, one a line, and read each verdict when it is there, in the order of their completion.

    Answers come while lines are still sent; the body must be complete within 120 seconds. Checks without a live
    executor of their kind are queued until there is one. Empty lines mean that the batch is alive. With check ids of
    your own a batch whose connection broke may be sent again as it was.
    """
    desk.waiters.require_room()
    return BatchAnswer(desk)


async def _read(batch: Batch, receive: Receive) -> None:
    """Take the body, then wait until the caller leaves."""
    while (message := await receive())["type"] == "http.request":
        batch.take(message["body"])
        if not message["more_body"]:
            batch.end()


async def _write(batch: Batch, send: Send) -> None:
    headers = [(b"content-type", _NDJSON.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for line in batch.answers():
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
