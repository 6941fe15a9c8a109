"""The original service's form-data routes, one for each kind of check that is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, post
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from keck.errors import BadRequest
from keck.kinds import Kind, kinds_with_routes
from keck.messages import MAX_SOURCE_BYTES, CheckRequested, Options, new_request
from keck_gateway.bodies import LegacyAnswer
from keck_gateway.limits import MAX_FORM_FIELDS
from keck_gateway.problems import (
    MAX_BODY_BYTES,
    RETRY_LATER,
    UnsupportedMedia,
    problem_of,
    retry_after,
)
from keck_gateway.projection import Projected, failed, legacy_answer, missing_fields, of_problem
from keck_gateway.routes._answers import (
    GatewayRequest,
    TheDesk,
    json_response,
    problems,
    unless_gone,
)

__all__ = ["legacy_route", "legacy_routes"]

_OPTIONS = Options(tolerance="keck", profile=True)
"""The original compares with atol = rtol = 1e-2 and returns profiler tables."""
_DESCRIPTION = (
    "The original service's route. 200 for every candidate that was judged; whatever is not the candidate's own "
    "doing has another status, and a `msg` that begins `failed: infrastructure` or `failed: reference`."
)
_STATUSES = {
    HTTPStatus.OK: "Judged: passed, or failed by the candidate's own doing.",
    HTTPStatus.BAD_REQUEST: "The form cannot be read.",
    HTTPStatus.CONFLICT: "The check was cancelled.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no form by its Content-Type.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The reference fails; asking again will not help.",
    HTTPStatus.TOO_MANY_REQUESTS: "As much is queued or waits as may; see Retry-After.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Our failure, or no live executor; see Retry-After.",
    HTTPStatus.GATEWAY_TIMEOUT: "No verdict before the deadline.",
}
_RESPONSES = {status: spec for status, spec in problems().items() if status != 400} | {
    int(status): ResponseSpec(LegacyAnswer, description=text, generate_examples=False)
    for status, text in _STATUSES.items()
}
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


def legacy_routes() -> list[HTTPRouteHandler]:
    """A route for every registered kind that has one."""
    return [legacy_route(kind) for kind in kinds_with_routes()]


def legacy_route(kind: Kind) -> HTTPRouteHandler:
    """The route of one kind: its form fields in, the original's answer out."""

    @dataclass
    class FormOperation(Operation):
        def __post_init__(self) -> None:
            self.request_body = _form_of(kind)

    @post(
        kind.route,
        status_code=200,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={Exception: _shaped},
        operation_class=FormOperation,
        operation_id=kind.route.strip("/").replace("/", "_"),
        summary=f"Judge {kind.title}",
        description=_DESCRIPTION,
        tags=["original"],
        responses=_RESPONSES,
    )
    async def judge(request: GatewayRequest, desk: TheDesk) -> Response[bytes]:
        candidate, reference = await _fields(request, kind)
        if lacking := missing_fields(kind, candidate=candidate, reference=reference):
            return json_response(lacking)
        if too_large := _too_large(candidate, reference):
            return _respond(too_large)
        event = _request_of(kind, candidate, reference, deadline_s=desk.settings.deadline_s)
        verdict = await unless_gone(request, desk.judge(event, id_is_callers=False))
        assert verdict is not None, "without a waiting time there is a verdict or an exception"
        return _respond(legacy_answer(verdict))

    return judge


async def _fields(request: GatewayRequest, kind: Kind) -> tuple[str, str]:
    """Both sources as the form has them; empty where it lacks them, or where there is none."""
    try:
        form = await _form(request)
        return await _text(form.get(kind.candidate_field)), await _text(form.get(kind.reference_field))
    except (UnicodeDecodeError, LookupError) as error:
        raise BadRequest(f"a form field is not text in the character set it names: {error}") from error


async def _form(request: GatewayRequest) -> Mapping[str, Any]:
    """The form's fields, the first of each name.

    Raises:
        UnsupportedMedia: the body says that it is no form.
        BadRequest: it is none that can be read.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in _FORM_TYPES:
        raise UnsupportedMedia(f"the body is {media_type[:80]}; send a form: {' or '.join(_FORM_TYPES)}")
    try:
        if media_type == "application/x-www-form-urlencoded":
            # Not the framework's own parser, which keeps a thousand bodies in memory and counts no fields.
            text = (await request.body()).decode("latin-1")
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
            return dict(reversed(pairs))
        return await request.form()
    except (ClientException, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) or (
            isinstance(error, ClientException) and error.status_code != HTTPStatus.BAD_REQUEST
        ):
            raise
        raise BadRequest(
            f"the form cannot be read: it must be {' or '.join(_FORM_TYPES)}, with at most {MAX_FORM_FIELDS} fields"
        ) from error


async def _text(value: object) -> str:
    """A field's text; clients send sources as plain fields and as files."""
    read = getattr(value, "read", None)
    if read is None:
        return value if isinstance(value, str) else ""
    data: bytes = await read()
    return data.decode()


def _too_large(candidate: str, reference: str) -> Projected | None:
    """A source above the limit is its author's doing; it is told as what a judge would say of it."""
    limit = f"at most {MAX_SOURCE_BYTES} bytes are taken"
    if len(reference.encode()) > MAX_SOURCE_BYTES:
        return Projected(
            HTTPStatus.UNPROCESSABLE_ENTITY, failed(f"failed: reference: the reference is too large; {limit}")
        )
    if len(candidate.encode()) > MAX_SOURCE_BYTES:
        return Projected(HTTPStatus.OK, failed(f"failed: format_error: the candidate is too large; {limit}"))
    return None


def _request_of(kind: Kind, candidate: str, reference: str, *, deadline_s: float) -> CheckRequested:
    return new_request(
        candidate,
        reference,
        kind=kind.name,
        lane="interactive",
        options=_OPTIONS,
        deadline_s=deadline_s,
    )


def _shaped(request: GatewayRequest, error: Exception) -> Response[bytes]:
    """Any exception in the original's shape, which is all that its clients read."""
    problem = problem_of(error, where=f"{request.method} {request.url.path}")
    projected = of_problem(problem)
    return json_response(projected.answer, status=projected.status, headers=retry_after(error))


def _respond(projected: Projected) -> Response[bytes]:
    headers = RETRY_LATER if projected.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return json_response(projected.answer, status=projected.status, headers=headers)


def _form_of(kind: Kind) -> RequestBody:
    text = Schema(type=OpenAPIType.STRING)
    schema = Schema(
        type=OpenAPIType.OBJECT,
        properties={kind.candidate_field: text, kind.reference_field: text},
        required=[kind.candidate_field, kind.reference_field],
    )
    return RequestBody(
        required=True, content={form_type: OpenAPIMediaType(schema=schema) for form_type in _FORM_TYPES}
    )
