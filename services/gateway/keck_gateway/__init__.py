"""The gateway service: HTTP and NATS request-reply in front of the bus. Imports no torch, keeps no job state."""

from __future__ import annotations

from keck_gateway.app import build_app
from keck_gateway.desk import Desk

__all__ = ["Desk", "build_app"]
