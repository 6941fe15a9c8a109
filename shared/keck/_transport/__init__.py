"""How a client reaches Keck: the seam between :class:`keck.Client` and NATS or HTTP."""

from __future__ import annotations

from keck._transport._protocol import Transport
from keck._transport._select import transport_for

__all__ = ["Transport", "transport_for"]
