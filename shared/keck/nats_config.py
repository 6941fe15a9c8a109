"""A nats-server's configuration with one user for each role, each held to what its role needs.

The text is JSON, which the server's own format is a superset of, so that a name or a path needs no quoting of ours.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bcrypt

from keck import subjects
from keck.errors import BadRequest
from keck.roles import ANONYMOUS, PERMISSIONS

__all__ = ["ACCOUNT", "ServerConfig", "ServerTls", "new_passwords"]

ACCOUNT: Final = "KECK"
"""The account that has the streams; others on the same server share nothing with it."""

_MIB: Final = 1 << 20
_MAX_PAYLOAD: Final = 8 * _MIB
"""Above the server's default of 1 MiB, which a request of two large sources exceeds."""
_MAX_PENDING: Final = 256 * _MIB
"""One batch of a direct get must fit."""
_MAX_STREAMS: Final = 32
_MAX_CONSUMERS: Final = 1_000
_BCRYPT_ROUNDS: Final = 4
"""The least: a random password of 256 bits is not guessed, and the server computes the hash at each connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """Files of a server that speaks TLS and nothing else."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Given, clients must show a certificate that it signed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """What varies from one server to another.

    Args:
        passwords: of each role that may log in; hashed before they are written.
        anonymous: let in whoever names no user, as an orchestrator.
        port: -1: any free one.
    """

    name: str
    host: str
    port: int
    store: Path
    max_file_bytes: int
    max_memory_bytes: int
    passwords: Mapping[str, str]
    anonymous: bool = False
    tls: ServerTls | None = None

    def render(self) -> str:
        """The text of the configuration file.

        Raises:
            BadRequest: a password is for no role.
        """
        return json.dumps(self._tree(), indent=2) + "\n"

    def _tree(self) -> dict[str, Any]:
        unknown = sorted(set(self.passwords) - set(subjects.ROLES))
        if unknown:
            raise BadRequest(f"no such role: {', '.join(unknown)}; known are {', '.join(subjects.ROLES)}")
        tree: dict[str, Any] = {
            "server_name": self.name,
            "listen": f"{self.host}:{self.port}",
            "max_payload": _MAX_PAYLOAD,
            "max_pending": _MAX_PENDING,
            "jetstream": {
                "store_dir": str(self.store),
                "max_file_store": self.max_file_bytes,
                "max_memory_store": self.max_memory_bytes,
                # An acknowledged message is on disk; the default writes it within two minutes.
                "sync_interval": "always",
                "limits": {"default_max_consumers": _MAX_CONSUMERS},
            },
            "accounts": {
                ACCOUNT: {
                    "jetstream": {
                        "max_file": self.max_file_bytes,
                        "max_memory": self.max_memory_bytes,
                        # No limit of consumers here: each stream has its own, and the sum is of no use.
                        "max_streams": _MAX_STREAMS,
                    },
                    "users": self._users(),
                }
            },
        }
        if self.anonymous:
            tree["no_auth_user"] = ANONYMOUS
        if self.tls is not None:
            tree["tls"] = _tls(self.tls)
        return tree

    def _users(self) -> list[dict[str, Any]]:
        users = [_user(role, password) for role, password in self.passwords.items()]
        if self.anonymous:
            # No password: there is nothing to know, and the server would compare a hash with itself.
            users.append({"user": ANONYMOUS, "permissions": _permissions(ANONYMOUS)})
        return users


def new_passwords(*roles: str) -> dict[str, str]:
    """A fresh password for each role."""
    return {role: _new_password() for role in roles}


def _new_password() -> str:
    return secrets.token_urlsafe(32)


def _user(role: str, password: str) -> dict[str, Any]:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS))
    return {"user": role, "password": hashed.decode(), "permissions": _permissions(role)}


def _permissions(role: str) -> dict[str, Any]:
    publish, subscribe = PERMISSIONS[role]
    return {"publish": {"allow": list(publish)}, "subscribe": {"allow": list(subscribe)}}


def _tls(tls: ServerTls) -> dict[str, Any]:
    files: dict[str, Any] = {
        "cert_file": str(tls.certificate),
        "key_file": str(tls.key),
        "min_version": "1.2",
    }
    if tls.client_ca is not None:
        files |= {"ca_file": str(tls.client_ca), "verify": True}
    return files
