"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST

from keck_gateway.metrics import exposition
from keck_gateway.routes._answers import TheDesk, problems

__all__ = ["metrics"]


@get(
    "/metrics",
    summary="Metrics",
    operation_id="metrics",
    tags=["fleet"],
    responses={
        200: ResponseSpec(
            str, description="Prometheus' text format.", media_type="text/plain", generate_examples=False
        ),
        **problems(),
    },
)
async def metrics(desk: TheDesk) -> Response[bytes]:
    """Live workers, and how each contains what it runs, in Prometheus' text format."""
    return Response(exposition(desk), media_type=CONTENT_TYPE_LATEST)
