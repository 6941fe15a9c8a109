"""``keck nats-config``: the configuration of a nats-server that gives each role what it needs and no more."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path
from typing import Annotated, Literal

import typer

from keck import subjects
from keck.cli._talk import print_data, say, settings_and_logs
from keck.errors import BadRequest
from keck.nats_config import ServerConfig, ServerTls, new_passwords
from keck.private_file import write_private
from keck.streams import stream_configs

__all__ = ["nats_config"]

_USER = "KECK_NATS_USER"
_PASSWORD = "KECK_NATS_PASSWORD"
_ROOM = 1.25
"""The server refuses a stream that its store could not hold beside the others; and files are larger than messages."""
_MEMORY_BYTES = 256_000_000


def nats_config(
    credentials: Annotated[
        Path,
        typer.Argument(
            metavar="CREDENTIALS",
            help="Directory for one file of credentials a role; those that are there are kept.",
        ),
    ],
    *,
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:4222",
    store: Annotated[Path, typer.Option(help="Where the server keeps the streams.")] = Path("nats"),
    storage: Annotated[
        Literal["embedded", "production"] | None,
        typer.Option(help="Sizes of the streams. [default: KECK_STORAGE]"),
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Let in whoever names no user, as an orchestrator.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate: TLS for all connections.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Ask clients for a certificate that this authority signed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Without the comment above it.")] = False,
) -> None:
    """Print a nats-server configuration with one user a role, and write what each role logs in with.

    A server for this machine: `keck nats-config credentials/ > nats.conf && nats-server -c nats.conf`

    One for others, encrypted: `keck nats-config credentials/ --listen 0.0.0.0:4222 --tls-cert bus.pem --tls-key bus.key`
    """
    settings = settings_and_logs()
    host, port = _address(listen)
    reserved = sum(config["max_bytes"] for config in stream_configs(storage or settings.storage))
    config = ServerConfig(
        name="keck",
        host=host,
        port=port,
        store=store.expanduser().absolute(),
        max_file_bytes=int(reserved * _ROOM),
        max_memory_bytes=_MEMORY_BYTES,
        passwords=_passwords(credentials.expanduser()),
        anonymous=anonymous,
        tls=_tls(tls_cert, tls_key, tls_client_ca),
    )
    comment = "" if json else "# Made by `keck nats-config`: start with `nats-server -c` and this file.\n"
    print_data(comment + config.render().rstrip("\n"))
    say(f"keck: credentials are in {credentials}, one file a role; give each process its own and no other")
    if config.tls is None and not _is_loopback(host):
        say(f"keck: without --tls-cert passwords and sources cross the network to {host} in the clear")
    if anonymous and not _is_loopback(host):
        say(f"keck: with --anonymous whoever reaches {listen} may run code")


def _passwords(directory: Path) -> dict[str, str]:
    """Each role's password: from its file, or new and then in its file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {role: _password(directory / f"{role}.env", role) for role in subjects.ROLES}


def _password(file: Path, role: str) -> str:
    try:
        mode, lines = file.stat().st_mode, file.read_text().splitlines()
    except FileNotFoundError:
        password = new_passwords(role)[role]
        write_private(file, f"{_USER}={role}\n{_PASSWORD}={password}\n")
        return password
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadRequest(f"{file} can be read by others: `chmod 600` it, or delete it to get a new password")
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    if known.get(_USER) != role or not known.get(_PASSWORD):
        raise BadRequest(f"{file} does not hold the credentials of {role}: delete it to get new ones")
    return known[_PASSWORD]


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not int(port) <= 65_535:
        raise BadRequest(f"--listen {text!r}: must be ADDRESS:PORT")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise BadRequest("TLS needs both --tls-cert and --tls-key")
    files = {"--tls-cert": certificate, "--tls-key": key, "--tls-client-ca": client_ca}
    for option, file in files.items():
        if file is not None and not file.is_file():
            raise BadRequest(f"{option} {file}: there is no such file")
    return ServerTls(
        certificate=certificate.absolute(),
        key=key.absolute(),
        client_ca=client_ca.absolute() if client_ca else None,
    )
