"""TLS between real processes, with an authority made here: what is trusted, what is refused, and what is said."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from keck import Client, SettingError, Unavailable, subjects
from keck.bus import Bus, connect
from keck.fleet import Fleet
from keck.nats_config import ServerTls, new_passwords
from keck.settings import Settings
from keck.streams import provision
from keck.testing import NatsServer, async_wait_until
from keck.tls import bus_context, certificate_files

PASSWORDS = new_passwords(*subjects.ROLES)


class Files(NamedTuple):
    """An authority, a server's certificate for loopback, a client's, one for another host, and another authority."""

    ca: str
    cert: str
    key: str
    client_cert: str
    client_key: str
    other_cert: str
    other_key: str
    stranger: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tls")
    ours, strange = trustme.CA(), trustme.CA()

    def pair(name: str, *hosts: str) -> tuple[str, str]:
        issued = ours.issue_cert(*hosts)
        cert, key = directory / f"{name}.pem", directory / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return str(cert), str(key)

    ours.cert_pem.write_to_path(str(directory / "ca.pem"))
    strange.cert_pem.write_to_path(str(directory / "stranger.pem"))
    return Files(
        str(directory / "ca.pem"),
        *pair("server", "127.0.0.1", "localhost"),
        *pair("client", "client.example"),
        *pair("other", "other.example"),
        str(directory / "stranger.pem"),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[NatsServer]:
    tls = ServerTls(certificate=Path(files.cert), key=Path(files.key))
    with NatsServer(tmp_path_factory.mktemp("nats"), passwords=PASSWORDS, tls=tls) as running:
        yield running


def _settings(files: Files, *, role: str = "gateway", **changes: str) -> Settings:
    of = Settings(nats_user=role, nats_password=PASSWORDS[role], nats_tls_ca=files.ca)
    return dataclasses.replace(of, **changes)  # type: ignore[arg-type]


# --- the bus


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_the_bus_is_trusted_by_its_authority_whatever_the_scheme(server, files, scheme):
    url = server.url.replace("tls://", f"{scheme}://")
    async with await connect(_settings(files), name="t", url=url) as bus:
        await provision(bus, storage="embedded")
        assert bus.nc.connected_url is not None


async def test_the_connection_survives_a_restart_of_the_server(tmp_path, files):
    tls = ServerTls(certificate=Path(files.cert), key=Path(files.key))
    with NatsServer(tmp_path, passwords=PASSWORDS, tls=tls) as server:
        async with await connect(_settings(files), name="t", url=server.url) as bus:
            await asyncio.to_thread(server.restart)
            await async_wait_until(lambda: bus.nc.stats["reconnects"] == 1, timeout_s=10)
            await provision(bus, storage="embedded")


async def test_a_bus_of_another_authority_is_refused(server, files):
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await connect(_settings(files, nats_tls_ca=files.stranger), name="t", url=server.url)
    with pytest.raises(Unavailable, match="certificate verify failed"):  # nor does the system know it
        await connect(_settings(files, nats_tls_ca=""), name="t", url=server.url)


async def test_a_bus_with_another_hosts_certificate_is_refused(tmp_path, files):
    tls = ServerTls(certificate=Path(files.other_cert), key=Path(files.other_key))
    with (
        NatsServer(tmp_path, passwords=PASSWORDS, tls=tls) as server,
        pytest.raises(Unavailable, match="IP address mismatch"),
    ):
        await connect(_settings(files), name="t", url=server.url)


async def test_a_bus_without_tls_is_sent_no_password_where_tls_was_asked_for(files):
    """The library would log in in the clear: the server, or whoever poses as it, must not see the password."""
    received = bytearray()

    async def pose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","headers":true,"auth_required":true}\r\n')
        while data := await reader.read(4096):
            received.extend(data)
            writer.write(b"PONG\r\n")
        writer.close()

    posing = await asyncio.start_server(pose, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{posing.sockets[0].getsockname()[1]}"
    async with posing:
        with pytest.raises(Unavailable, match="does not speak TLS"):
            await connect(_settings(files), name="t", url=url)
        assert received == b""
        # The same server gets a password from whoever asks for no TLS: the test above can fail.
        plain = await Bus.connect(url, name="t", user="gateway", password="hunter2")
        await plain.nc.close()
        assert b"hunter2" in received


async def test_a_client_certificate_is_shown_to_a_server_that_asks(tmp_path, files):
    tls = ServerTls(certificate=Path(files.cert), key=Path(files.key), client_ca=Path(files.ca))
    with NatsServer(tmp_path, passwords=PASSWORDS, tls=tls) as server:
        shown = _settings(files, nats_tls_cert=files.client_cert, nats_tls_key=files.client_key)
        await (await connect(shown, name="t", url=server.url)).close()
        with pytest.raises(Unavailable):
            await connect(_settings(files), name="t", url=server.url)


async def test_the_sdk_speaks_tls_to_the_bus(server, files):
    async with Client(server.url, settings=_settings(files, role="orchestrator")) as client:
        assert await client.executors() == []


# --- files


def test_files_that_cannot_be_used_are_named_with_their_variable(files, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("")
    cases = [
        ({"nats_tls_ca": str(tmp_path / "none")}, "KECK_NATS_TLS_CA=.*none: no such file"),
        ({"nats_tls_ca": str(tmp_path)}, "KECK_NATS_TLS_CA=.*: is a directory"),
        ({"nats_tls_ca": str(empty)}, "KECK_NATS_TLS_CA=.*: holds no certificate"),
        ({"nats_tls_cert": files.client_cert}, "KECK_NATS_TLS_CERT is set and KECK_NATS_TLS_KEY is not"),
        ({"nats_tls_key": files.client_key}, "KECK_NATS_TLS_KEY is set and KECK_NATS_TLS_CERT is not"),
        (
            {"nats_tls_cert": files.client_cert, "nats_tls_key": files.key},
            "KECK_NATS_TLS_CERT=.* and KECK_NATS_TLS_KEY=.*: not a certificate and its private key",
        ),
        (
            {"nats_tls_cert": files.client_cert, "nats_tls_key": str(empty)},
            "not a certificate and its private key",
        ),
    ]
    for changes, says in cases:
        with pytest.raises(SettingError, match=says):
            bus_context(Settings(**changes))
    with pytest.raises(SettingError, match="KECK_TLS_CA=/nowhere: no such file"):
        Client("https://127.0.0.1:1", settings=Settings(tls_ca="/nowhere"))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(files, tmp_path):
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:x1234567", "-in", files.key, "-out", str(locked)]
        if "RSA" in Path(files.key).read_text()
        else ["openssl", "ec", "-aes256", "-passout", "pass:x1234567", "-in", files.key, "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    with pytest.raises(SettingError, match="without a password"):
        certificate_files(("A", files.cert), ("B", str(locked)))


def test_without_any_of_it_there_is_no_tls():
    assert bus_context(Settings()) is None
    assert bus_context(Settings(nats_url="tls://somewhere:4222")) is not None


# --- the gateway, as a process


def _environment(server: NatsServer, files: Files, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    return (
        kept
        | {
            "KECK_HTTP_PORT": "0",
            "KECK_NATS_URL": server.url,
            "KECK_NATS_USER": "gateway",
            "KECK_NATS_PASSWORD": PASSWORDS["gateway"],
            "KECK_NATS_TLS_CA": files.ca,
            "KECK_HTTP_TLS_CERT": files.cert,
            "KECK_HTTP_TLS_KEY": files.key,
        }
        | changes
    )


@pytest.fixture
async def gateway_url(server: NatsServer, files: Files) -> AsyncIterator[str]:
    """A gateway that speaks TLS on both sides, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "keck_gateway", env=_environment(server, files), stderr=subprocess.PIPE
    )
    try:
        async with await connect(_settings(files, role="observer"), name="t", url=server.url) as bus:
            fleet = Fleet(bus)
            await fleet.start()
            alive = await fleet.wait_for(lambda fleet: any(w.pid == process.pid for w in fleet.live()), 30)
            assert alive, process.returncode
            [beat] = [worker for worker in fleet.live() if worker.pid == process.pid]
            await fleet.stop()
        yield str(beat.facts["url"])
    finally:
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 15)
    assert PASSWORDS["gateway"].encode() not in log


@pytest.mark.slow
async def test_a_gateway_speaks_https_to_those_who_trust_its_authority(gateway_url, files):
    assert gateway_url.startswith("https://127.0.0.1:")
    async with Client(gateway_url, settings=Settings(tls_ca=files.ca)) as client:
        assert await client.executors() == []
    command = [sys.executable, "-m", "keck.cli", "doctor", "--json"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("KECK_")}
    for ca, answers in ((files.ca, True), (files.stranger, False)):
        outcome = await asyncio.create_subprocess_exec(
            *command, env=environ | {"KECK_URL": gateway_url, "KECK_TLS_CA": ca}, stdout=subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(outcome.communicate(), 60)
        assert (f"{gateway_url} answers" in out.decode()) is answers
        assert ("certificate verify failed" in out.decode()) is not answers


@pytest.mark.slow
async def test_plain_http_to_a_gateway_with_tls_gets_no_answer(gateway_url, files):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway_url.rpartition(":")[2]))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP" not in await asyncio.wait_for(reader.read(), 10)
    writer.close()


@pytest.mark.parametrize("service", ["gateway", "compiler", "executor"])
@pytest.mark.slow
def test_a_service_whose_files_are_missing_ends_with_their_names(server, files, service):
    environ = _environment(server, files, KECK_NATS_TLS_CA="/nowhere/ca.pem")
    outcome = subprocess.run(
        [sys.executable, "-m", f"keck_{service}"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert outcome.returncode == 2
    assert "KECK_NATS_TLS_CA=/nowhere/ca.pem: no such file" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_gateway_without_its_key_ends_in_one_line(server, files):
    outcome = subprocess.run(
        [sys.executable, "-m", "keck_gateway"],
        env=_environment(server, files, KECK_HTTP_TLS_KEY=""),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == 2
    assert "KECK_HTTP_TLS_CERT is set and KECK_HTTP_TLS_KEY is not" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
