"""Who may speak to the gateway: safe defaults for a service that runs code.

A page in somebody's browser can reach a server on loopback. It cannot hide the Origin it comes from, and
after rebinding a name of its own to 127.0.0.1 it cannot hide that name in Host: both are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterable
from http import HTTPStatus

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from keck.errors import SettingError
from keck.messages import to_json
from keck.settings import Settings
from keck_gateway.limits import too_much
from keck_gateway.problems import PROBLEM_JSON, Problem
from keck_gateway.tokens import Tokens, role_needed

__all__ = ["Guards", "is_loopback", "require_safe_binding"]

_OPEN_PATH = "/healthz"
_ANY = "*"
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_DISCARD_BYTES, _DISCARD_S = 1 << 20, 1.0


class Guards:
    """ASGI middleware: sizes, Host, Origin, bearer token and its role, before anything else is looked at."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tokens = Tokens.of(settings)
        self._hosts = _listed(settings.allowed_hosts)
        self._origins = _listed(settings.allowed_origins)
        self._beyond_loopback = not is_loopback(settings.http_host)
        self._own_host = settings.http_host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on."""
        problem = self._problem(scope) if scope["type"] == ScopeType.HTTP else None
        if problem is None:
            await self._app(scope, receive, send)
            return
        await _discard_body(receive)
        await _answer(problem, send)

    def _problem(self, scope: HTTPScope) -> Problem | None:
        if oversize := too_much(scope):
            return oversize
        hosts, origins = (_values(scope, name) for name in (b"host", b"origin"))
        if not all(map(self._host_is_ours, hosts)):
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "foreign-host",
                f"the Host header {hosts[0]!r} is not this gateway's; "
                "an operator may list it in KECK_ALLOWED_HOSTS",
            )
        if not all(self._origin_is_ours(origin, hosts) for origin in origins):
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "foreign-origin",
                f"pages from {origins[0]!r} may not call this gateway; "
                "an operator may list the origin in KECK_ALLOWED_ORIGINS",
            )
        if self._tokens and scope["path"] != _OPEN_PATH:
            return self._unauthorized(scope)
        return None

    def _unauthorized(self, scope: HTTPScope) -> Problem | None:
        given = self._tokens.role_of(_bearer(_values(scope, b"authorization")))
        if given is None:
            return _refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "send a token of this gateway (its KECK_TOKEN, or one of its KECK_TOKENS_FILE) as "
                "`Authorization: Bearer <token>`",
            )
        needed = role_needed(scope["method"], scope["path"])
        if given < needed:
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "role",
                f"{scope['method']} {scope['path']} needs a token of the role {needed.label}; "
                f"this one's is {given.label}",
            )
        return None

    def _host_is_ours(self, value: str) -> bool:
        name = _without_port(value)
        if name == "localhost" or _is_loopback_address(name) or name == self._own_host:
            return True
        # An address cannot be rebound as a name can, and beyond loopback any of the machine's may be meant.
        if self._beyond_loopback and _is_address(name):
            return True
        return bool({_ANY, name, value.lower()} & self._hosts)

    def _origin_is_ours(self, origin: str, hosts: list[str]) -> bool:
        lowered = origin.lower()
        if {_ANY, lowered} & self._origins:
            return True
        scheme, separator, authority = lowered.partition("://")
        if not separator or scheme not in _DEFAULT_PORTS:
            return False  # "null", extensions, files
        own = {_without_default_port(host.lower(), scheme) for host in hosts}
        return _without_default_port(authority, scheme) in own


def require_safe_binding(settings: Settings) -> None:
    """Refuse to listen beyond loopback without a token.

    Raises:
        SettingError: says what to set.
    """
    if is_loopback(settings.http_host) or settings.token or settings.tokens_file or settings.insecure:
        return
    raise SettingError(
        f"KECK_HTTP_HOST={settings.http_host}: Keck executes code, so beyond loopback it asks for a token. "
        "Set KECK_TOKEN or KECK_TOKENS_FILE, or KECK_INSECURE=1 if whoever reaches this address may run code here"
    )


def is_loopback(host: str) -> bool:
    """Whether listening on this address is for this machine only."""
    return host.lower() == "localhost" or _is_loopback_address(host)


def _is_loopback_address(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _without_port(value: str) -> str:
    lowered = value.strip().lower()
    if lowered.startswith("["):
        return lowered.partition("]")[0] + "]"
    return lowered.partition(":")[0]


def _without_default_port(authority: str, scheme: str) -> str:
    return authority.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


def _bearer(values: list[str]) -> str:
    """The token of the one Authorization header; empty, which no token is, where there is none or several."""
    if len(values) != 1:
        return ""
    scheme, _, given = values[0].partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _values(scope: HTTPScope, name: bytes) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in headers if key == name]


def _refusal(status: HTTPStatus, slug: str, detail: str) -> Problem:
    return Problem(type=f"urn:keck:problem:{slug}", title=status.phrase, status=int(status), detail=detail)


async def _discard_body(receive: Receive) -> None:
    """Read what has been sent, up to a limit: a connection that is closed on unread bytes is reset, and the answer lost."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while taken < _DISCARD_BYTES:
                message = await receive()
                if message["type"] != "http.request":
                    return
                taken += len(message["body"])
                if not message["more_body"]:
                    return


async def _answer(problem: Problem, send: Send) -> None:
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"connection", b"close")]
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": to_json(problem), "more_body": False})
