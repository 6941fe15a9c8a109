"""The HTTP routes, one module per concern."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from keck_gateway.routes import (
    batches,
    checks,
    documentation,
    events,
    executors,
    health,
    legacy,
    load,
    metrics,
    replays,
    trainers,
)

__all__ = ["route_handlers"]


def route_handlers() -> list[ControllerRouterHandler]:
    """Every route of the gateway."""
    return [
        *legacy.legacy_routes(),
        checks.submit,
        checks.ask,
        checks.cancel,
        replays.replay,
        batches.batch,
        events.events,
        events.run_events,
        executors.executors,
        load.load,
        health.healthz,
        metrics.metrics,
        documentation.openapi_json,
        documentation.docs,
        trainers.slime,
        trainers.openrlhf,
        trainers.seed_session,
        trainers.verify,
    ]
