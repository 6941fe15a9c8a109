"""``GET /v1/checks/{id}/events`` and ``GET /v1/runs/{run}/events``: a check, or a whole run, as server-sent events."""

from __future__ import annotations

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from keck_gateway.bodies import require_name
from keck_gateway.event_stream import follow
from keck_gateway.routes._answers import TheDesk, problems
from keck_gateway.routes.checks import CheckId, Generation, Run, RunInPath, named

__all__ = ["events", "run_events"]


@get(
    "/v1/checks/{check_id:str}/events",
    summary="Follow a check",
    operation_id="followCheck",
    tags=["checks"],
    media_type="text/event-stream",
    responses={
        200: ResponseSpec(
            str,
            description="Server-sent events: `queued` (QueuePlace: at first, and when its place changes), "
            "`progress` (CheckProgress), `verdict` (EvalDone), which is the last.",
            media_type="text/event-stream",
            generate_examples=False,
        ),
        **problems(404, 429, 503),
    },
)
async def events(
    check_id: CheckId, desk: TheDesk, run: Run = "default", generation: Generation = 0
) -> Stream:
    """Where the check is and what happens to it, ended by its verdict, which may be there already."""
    key = named(run, check_id, generation)
    desk.waiters.require_room()
    await desk.find(key)  # what is not known is a 404, not an empty stream
    return Stream(follow(desk, key), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@get(
    "/v1/runs/{run:str}/events",
    summary="Watch a run",
    operation_id="watchRun",
    tags=["checks"],
    media_type="text/event-stream",
    responses={
        200: ResponseSpec(
            str,
            description="Server-sent events without an end: `progress` (CheckProgress) and `verdict` (EvalDone).",
            media_type="text/event-stream",
            generate_examples=False,
        ),
        **problems(429, 503),
    },
)
async def run_events(run: RunInPath, desk: TheDesk) -> Stream:
    """What happens to the checks of a run from now on; what was missed is not told again."""
    name = require_name(run, what="run")
    desk.watched.require_room()
    return Stream(
        desk.watched.follow(name), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )
