"""TLS as the settings say: contexts for the bus and for gateways, and files checked where they are named."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from keck.errors import SettingError
from keck.settings import Settings

__all__ = ["bus_context", "certificate_files", "gateway_context"]

_ENCRYPTED = frozenset({"tls", "wss"})


def bus_context(settings: Settings, *, url: str = "") -> ssl.SSLContext | None:
    """What the bus must prove and is shown; None where neither the settings nor the URL ask for TLS.

    Raises:
        SettingError: a file is missing or holds something else; the message names the variable.
    """
    servers = (url or settings.nats_url).split(",")
    asked_for = any(urlsplit(server.strip()).scheme in _ENCRYPTED for server in servers)
    pair = certificate_files(
        ("KECK_NATS_TLS_CERT", settings.nats_tls_cert), ("KECK_NATS_TLS_KEY", settings.nats_tls_key)
    )
    if not (asked_for or settings.nats_tls_ca or pair):
        return None
    context = _trusting("KECK_NATS_TLS_CA", settings.nats_tls_ca)
    if pair is not None:
        _load_pair(context, ("KECK_NATS_TLS_CERT", pair[0]), ("KECK_NATS_TLS_KEY", pair[1]))
    return context


def gateway_context(settings: Settings) -> ssl.SSLContext | None:
    """What an https gateway must prove, if ``KECK_TLS_CA`` says; None: what the system trusts.

    Raises:
        SettingError: the file is missing or holds no certificate.
    """
    return _trusting("KECK_TLS_CA", settings.tls_ca) if settings.tls_ca else None


def certificate_files(certificate: tuple[str, str], key: tuple[str, str]) -> tuple[Path, Path] | None:
    """The two files of a certificate, each given as its variable and value; None if neither is set.

    Raises:
        SettingError: only one is set, or they cannot be used together.
    """
    if not certificate[1] and not key[1]:
        return None
    for (name, value), (other, _) in ((certificate, key), (key, certificate)):
        if not value:
            raise SettingError(f"{other} is set and {name} is not: TLS needs both")
    paths = _readable(*certificate), _readable(*key)
    _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), (certificate[0], paths[0]), (key[0], paths[1]))
    return paths


def _trusting(name: str, authority: str) -> ssl.SSLContext:
    """A context for clients; with an authority of one's own, that one alone is believed."""
    if not authority:
        return ssl.create_default_context()
    file = _readable(name, authority)
    try:
        return ssl.create_default_context(cafile=str(file))
    except ssl.SSLError:
        raise SettingError(f"{name}={file}: holds no certificate in PEM form") from None


def _load_pair(context: ssl.SSLContext, certificate: tuple[str, Path], key: tuple[str, Path]) -> None:
    try:
        # Never ask on a terminal: a service has none.
        context.load_cert_chain(certificate[1], key[1], password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise SettingError(
            f"{certificate[0]}={certificate[1]} and {key[0]}={key[1]}: not a certificate and its private key "
            f"in PEM form without a password ({reason})"
        ) from None


def _no_password() -> str:
    raise ValueError("the key asks for a password")


def _readable(name: str, value: str) -> Path:
    file = Path(value).expanduser()
    try:
        with file.open("rb"):
            return file
    except OSError as error:
        raise SettingError(f"{name}={value}: {(error.strerror or str(error)).lower()}") from None
