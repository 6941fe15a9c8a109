"""The Litestar application: routes, errors, guards, OpenAPI."""

from __future__ import annotations

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig

from keck._version import __version__
from keck_gateway.desk import Desk
from keck_gateway.guards import Guards
from keck_gateway.limits import MAX_FORM_FIELDS
from keck_gateway.problems import MAX_BODY_BYTES
from keck_gateway.routes import route_handlers
from keck_gateway.routes._answers import problem_response

__all__ = ["build_app"]


def build_app(desk: Desk) -> Guards:
    """The ASGI application: guards first, so that they cover also what does not exist."""
    app = Litestar(
        route_handlers(),
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        exception_handlers={Exception: problem_response},
        request_max_body_size=MAX_BODY_BYTES,
        multipart_form_part_limit=MAX_FORM_FIELDS,
        openapi_config=_openapi_config(),
        logging_config=None,
        # Litestar's own way out of a debugger session must not be switched on by an environment variable.
        debug=False,
        pdb_on_exception=False,
    )
    return Guards(app, desk.settings)


def _openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Keck",
        version=__version__,
        description="Judges GPU kernels: send a candidate and its reference, get one verdict.",
        use_handler_docstrings=True,
        # /openapi.json and /docs are routes of ours; this prefix only keeps the plugin's own out of the way.
        path="/docs/plugin",
    )
