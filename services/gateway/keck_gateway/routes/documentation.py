"""``/openapi.json`` and the page for people."""

from __future__ import annotations

from litestar import Response, get

from keck.messages import to_json
from keck_gateway.docs_page import render
from keck_gateway.routes._answers import GatewayRequest

__all__ = ["docs", "openapi_json"]


@get("/openapi.json", include_in_schema=False)
async def openapi_json(request: GatewayRequest) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(to_json(_document(request)), media_type="application/json")


@get("/docs", include_in_schema=False)
async def docs(request: GatewayRequest) -> Response[str]:
    """The same as a page that loads nothing from anywhere."""
    return Response(
        render(_document(request)),
        media_type="text/html",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def _document(request: GatewayRequest) -> dict[str, object]:
    schema: dict[str, object] = request.app.openapi_schema.to_schema()
    return schema
