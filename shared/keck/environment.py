"""Variables that look like settings and are none."""

from __future__ import annotations

from collections.abc import Mapping

from keck.logs import logger
from keck.settings import unknown_variables

__all__ = ["unknown_variable_sentence", "warn_of_unknown_variables"]


def warn_of_unknown_variables(environ: Mapping[str, str] | None = None) -> None:
    """Log each ``KECK_*`` variable that nothing reads: a typing error would otherwise go unnoticed.

    Call once at start, when logging is set up. It warns and does not fail, because Kubernetes injects such
    names for a service called ``keck``.
    """
    for name, nearest in unknown_variables(environ):
        logger().warning("unknown_variable", variable=name, did_you_mean=nearest)


def unknown_variable_sentence(name: str, nearest: str | None) -> str:
    """The same for people."""
    hint = f"; did you mean {nearest}?" if nearest else ""
    return f"{name} is no setting of Keck and has no effect{hint}"
