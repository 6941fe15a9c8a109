"""``POST /v1/replays``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from litestar import post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from litestar.response import Stream

from keck.messages import ReplayProgress, to_json
from keck_gateway.bodies import ReplayBody
from keck_gateway.desk import Desk
from keck_gateway.problems import MAX_BODY_BYTES
from keck_gateway.routes._answers import TheDesk, json_only, problems

__all__ = ["replay"]

_NDJSON = "application/x-ndjson"


@post(
    "/v1/replays",
    status_code=200,
    request_max_body_size=MAX_BODY_BYTES,
    guards=[json_only],
    summary="Do checks again",
    operation_id="replay",
    tags=["replays"],
    responses={
        200: ResponseSpec(
            ReplayProgress,
            description="A ReplayProgress a line, about every second; the last has `finished` or `error`.",
            media_type=_NDJSON,
            generate_examples=False,
        ),
        **problems(413, 415, 429, 503),
    },
)
async def replay(data: JSONBody[ReplayBody], desk: TheDesk) -> Stream:
    """Do stored checks again as a new generation: score verdicts, judge builds, or all of it.

    The replay ends when the connection does; named with its `to_generation`, the same call goes on with it.
    """
    desk.replays.require_possible(data)
    return Stream(_lines(desk, data), media_type=_NDJSON, headers={"Cache-Control": "no-store"})


async def _lines(desk: Desk, order: ReplayBody) -> AsyncIterator[bytes]:
    async with aclosing(desk.replays.run(order)) as told:
        async for progress in told:
            yield to_json(progress) + b"\n"
