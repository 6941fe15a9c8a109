"""``POST /v1/checks``, ``GET /v1/checks/{id}`` and ``DELETE /v1/checks/{id}``."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter

from keck.errors import BadRequest
from keck.messages import NAME_PATTERN, EvalDone
from keck.subjects import CheckKey
from keck_gateway.bodies import MAX_WAIT_S, Accepted, CheckBody, CheckState, links_of, require_name
from keck_gateway.problems import MAX_BODY_BYTES
from keck_gateway.routes._answers import (
    GatewayRequest,
    TheDesk,
    json_only,
    json_response,
    problems,
    unless_gone,
)

__all__ = ["CheckId", "Generation", "Run", "RunInPath", "ask", "cancel", "named", "submit"]

MAX_GENERATION = 2**31 - 1
"""It becomes a part of a subject: one of thousands of digits makes the server close the connection."""
CheckId = Annotated[str, PathParameter(description="The check's id.", pattern=NAME_PATTERN)]
RunInPath = Annotated[str, PathParameter(description="The run.", pattern=NAME_PATTERN)]
Run = Annotated[str, QueryParameter(description="The run the check belongs to.", pattern=NAME_PATTERN)]
Generation = Annotated[
    int, QueryParameter(description="0 for the check itself, above for replays.", ge=0, le=MAX_GENERATION)
]
Reason = Annotated[
    str, QueryParameter(description="One line for people, which the verdict repeats.", max_length=200)
]
Wait = Annotated[
    float,
    QueryParameter(description=f"Seconds to wait for the verdict; at most {MAX_WAIT_S:.0f}, 0: do not wait."),
]


@post(
    "/v1/checks",
    status_code=202,
    request_max_body_size=MAX_BODY_BYTES,
    guards=[json_only],
    summary="Submit a check",
    operation_id="submitCheck",
    tags=["checks"],
    responses={
        200: ResponseSpec(EvalDone, description="The verdict, with `?wait=`.", generate_examples=False),
        202: ResponseSpec(Accepted, description="Stored; no verdict yet.", generate_examples=False),
        **problems(409, 413, 415, 429, 503),
    },
)
async def submit(
    request: GatewayRequest, data: JSONBody[CheckBody], desk: TheDesk, wait: Wait = 0.0
) -> Response[bytes]:
    """Submit a candidate and its reference. Without `wait` the answer is the id to ask for; with it, the verdict.

    A check that waits needs a live executor of the kind its candidate asks for; one that does not wait is
    queued until there is one. Repeating a call with your own `check_id` and the same content is safe.
    """
    if not 0 <= wait < float("inf"):
        raise BadRequest("query: `wait` must be a number of seconds, 0 or more")
    id_is_callers = data.check_id is not None
    event = desk.request_of(data, lane="interactive" if wait else "bulk")
    if wait:
        answer = desk.judge(event, id_is_callers=id_is_callers, wait_s=min(wait, MAX_WAIT_S))
        verdict = await unless_gone(request, answer)
        if verdict is not None:
            return json_response(verdict)
    else:
        await desk.submit(event, id_is_callers=id_is_callers)
    return _accepted(CheckKey.of(event))


@get(
    "/v1/checks/{check_id:str}",
    summary="Ask for a check",
    operation_id="getCheck",
    tags=["checks"],
    responses={
        200: ResponseSpec(
            EvalDone | CheckState,
            description="The verdict (`type` is `eval.done`), or where the check is (`check.state`).",
            generate_examples=False,
        ),
        **problems(404, 503),
    },
)
async def ask(
    check_id: CheckId, desk: TheDesk, run: Run = "default", generation: Generation = 0
) -> Response[bytes]:
    """The verdict of a check, or where it is: queued, building, built, running."""
    return json_response(await desk.find(named(run, check_id, generation)))


@delete(
    "/v1/checks/{check_id:str}",
    status_code=200,
    summary="Cancel a check",
    operation_id="cancelCheck",
    tags=["checks"],
    responses={
        200: ResponseSpec(
            EvalDone,
            description="The verdict: `cancelled`, or the one it had already.",
            generate_examples=False,
        ),
        **problems(404, 503),
    },
)
async def cancel(
    check_id: CheckId, desk: TheDesk, run: Run = "default", generation: Generation = 0, reason: Reason = ""
) -> Response[bytes]:
    """End a check wherever it is: what waits is never begun, and what is being built or judged is killed."""
    return json_response(await desk.cancel(named(run, check_id, generation), reason=reason))


def named(run: str, check_id: str, generation: int) -> CheckKey:
    """The check that a path and its query name.

    Raises:
        BadRequest: no check may have such a name.
    """
    return CheckKey(require_name(run, what="run"), require_name(check_id, what="check_id"), generation)


def _accepted(key: CheckKey) -> Response[bytes]:
    links = links_of(key)
    accepted = Accepted(check_id=key.check_id, run=key.run, generation=key.generation, links=links)
    return json_response(accepted, status=202, headers={"Location": links.self})
