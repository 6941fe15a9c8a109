"""The transport a URL asks for."""

from __future__ import annotations

from urllib.parse import urlsplit

from keck._transport._protocol import Transport
from keck.errors import BadRequest
from keck.settings import Settings
from keck.tls import gateway_context

__all__ = ["transport_for"]

_NATS_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})


def transport_for(url: str, settings: Settings, *, token: str | None) -> Transport:
    """A transport for this URL, not yet open.

    Raises:
        BadRequest: the URL has another scheme, or no host.
        SettingError: the certificate authority's file cannot be used.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise BadRequest(f"{url!r} is not a URL: write nats://host:port or http://host:port")
    # Each library is imported by the transport that needs it: `import keck` stays cheap.
    if parts.scheme in _NATS_SCHEMES:
        from keck._transport._nats import NatsTransport  # noqa: PLC0415

        return NatsTransport(url, settings=settings)
    if parts.scheme in ("http", "https"):
        from keck._transport._http import HttpTransport  # noqa: PLC0415

        return HttpTransport(
            url, token=settings.token if token is None else token, tls=gateway_context(settings)
        )
    raise BadRequest(f"{url!r}: unknown scheme {parts.scheme!r}; known are nats, tls, ws, wss, http, https")
