"""``GET /v1/executors``: who is alive to judge."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from keck.messages import Heartbeat
from keck_gateway.routes._answers import TheDesk, json_response, problems

__all__ = ["executors"]


@get(
    "/v1/executors",
    summary="List executors",
    operation_id="listExecutors",
    tags=["fleet"],
    responses={
        200: ResponseSpec(list[Heartbeat], description="Executors heard of lately.", generate_examples=False),
        **problems(),
    },
)
async def executors(desk: TheDesk) -> Response[bytes]:
    """The last heartbeat of each live executor: device, load, state and facts."""
    return json_response(desk.fleet.executors())
