"""structlog, set up once per process: JSON lines in services, readable lines on a terminal, all on stderr.

Event names are constant and data are fields; ``check_id``, ``run``, ``stage`` and ``attempt`` are bound in
context variables while a message is handled.
"""

from __future__ import annotations

import logging
import sys

import structlog

from keck.settings import Settings

__all__ = ["configure", "logger"]


def configure(settings: Settings, *, service: str) -> None:
    """Set up logging for this process; call once, first thing in ``main``."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.dict_tracebacks if not console else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log through the standard module; their warnings belong in the same stream.
    logging.basicConfig(stream=sys.stderr, level=max(level, logging.WARNING), format="%(name)s: %(message)s")


def logger() -> structlog.stdlib.BoundLogger:
    """A logger bound to the context of the task that calls it."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger()
    return bound
