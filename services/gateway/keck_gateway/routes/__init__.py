"""The HTTP routes, one module per concern."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from keck_gateway.routes.checks import ask, submit
from keck_gateway.routes.documentation import docs, openapi_json
from keck_gateway.routes.events import events
from keck_gateway.routes.executors import executors
from keck_gateway.routes.health import healthz
from keck_gateway.routes.legacy import legacy_routes

__all__ = ["route_handlers"]


def route_handlers() -> list[ControllerRouterHandler]:
    """Every route of the gateway."""
    return [submit, ask, events, executors, healthz, openapi_json, docs, *legacy_routes()]
