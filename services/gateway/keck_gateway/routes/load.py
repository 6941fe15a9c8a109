"""``GET /v1/load``: workers and queues at a glance."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from keck.load import Load
from keck.queues import load_of
from keck_gateway.routes._answers import TheDesk, json_response, problems

__all__ = ["load"]


@get(
    "/v1/load",
    summary="Workers and queues",
    operation_id="getLoad",
    tags=["fleet"],
    responses={
        200: ResponseSpec(
            Load, description="All live workers, and what waits for them.", generate_examples=False
        ),
        **problems(503),
    },
)
async def load(desk: TheDesk) -> Response[bytes]:
    """Every live worker, how much waits in each queue, and how many verdicts there are."""
    return json_response(await load_of(desk.bus, desk.fleet))
