"""`keck nats-config`: what it prints starts a server, and what it writes logs in to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from keck import NotPermitted, Unavailable, subjects
from keck.bus import Bus, connect
from keck.settings import load
from keck.streams import provision
from keck.testing import nats_server_executable, wait_until


def _keck(*arguments: str | Path, directory: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    outcome = subprocess.run(
        [sys.executable, "-m", "keck.cli", "nats-config", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environ,
        cwd=directory,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == code, outcome.stderr
    return outcome


def _credentials(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@contextmanager
def _serving(config: str, directory: Path, scheme: str = "nats") -> Iterator[str]:
    (directory / "server.conf").write_text(config)
    command = [nats_server_executable(), "-c", "server.conf", "-p", "-1", "--ports_file_dir", str(directory)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        ports = directory / f"nats-server_{process.pid}.ports"
        wait_until(lambda: ports.exists() and ports.stat().st_size > 0, timeout_s=10)
        port = json.loads(ports.read_text())["nats"][0].rpartition(":")[2]
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("arguments", [[], ["--storage", "production"]], ids=["embedded", "production"])
async def test_what_it_prints_is_a_server_where_the_gateway_can_make_the_streams(tmp_path, arguments):
    printed = _keck("credentials", *arguments, directory=tmp_path)
    files = sorted((tmp_path / "credentials").iterdir())
    assert [file.stem for file in files] == sorted(subjects.ROLES)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    for file in files:
        assert _credentials(file)["KECK_NATS_PASSWORD"] not in printed.stdout + printed.stderr
    with _serving(printed.stdout, tmp_path) as url:
        storage = arguments[-1] if arguments else "embedded"
        gateway = load(_credentials(tmp_path / "credentials" / "gateway.env") | {"KECK_NATS_URL": url})
        async with await connect(gateway, name="t") as bus:
            await provision(bus, storage=storage)
        observer = load(_credentials(tmp_path / "credentials" / "observer.env") | {"KECK_NATS_URL": url})
        async with await connect(observer, name="t") as bus:
            with pytest.raises(NotPermitted):
                await bus.store("check.requested.bulk.run.check", b"")
        with pytest.raises(Unavailable):
            await Bus.connect(url, name="t")


def test_a_second_time_the_credentials_stay_and_the_server_still_knows_them(tmp_path):
    first = _keck("credentials", directory=tmp_path)
    before = {file.name: file.read_text() for file in (tmp_path / "credentials").iterdir()}
    (tmp_path / "credentials" / "executor.env").unlink()
    second = _keck("credentials", "--json", directory=tmp_path)
    after = {file.name: file.read_text() for file in (tmp_path / "credentials").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"executor.env"}
    assert first.stdout.startswith("# ")
    assert json.loads(second.stdout)["server_name"] == "keck"


async def test_with_a_certificate_it_speaks_tls(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    printed = _keck("c", "--tls-cert", "both.pem", "--tls-key", "both.pem", directory=tmp_path)
    with _serving(printed.stdout, tmp_path, "tls") as url:
        login = _credentials(tmp_path / "c" / "admin.env")
        settings = load(login | {"KECK_NATS_URL": url, "KECK_NATS_TLS_CA": str(tmp_path / "ca.pem")})
        await (await connect(settings, name="t")).close()


def test_what_is_risky_is_said_and_only_then(tmp_path):
    quiet = _keck("c", directory=tmp_path).stderr
    assert "in the clear" not in quiet
    open_to_all = _keck("c", "--listen", "0.0.0.0:4222", "--anonymous", directory=tmp_path).stderr
    assert "in the clear" in open_to_all
    assert "whoever reaches 0.0.0.0:4222 may run code" in open_to_all


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "nowhere"], "must be ADDRESS:PORT"),
        (["--listen", "127.0.0.1:99999"], "must be ADDRESS:PORT"),
        (["--tls-cert", "none.pem"], "needs both --tls-cert and --tls-key"),
        (["--tls-cert", "none.pem", "--tls-key", "none.key"], "none.pem: there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, arguments, says):
    outcome = _keck("c", *arguments, directory=tmp_path, code=2)
    assert says in outcome.stderr
    assert outcome.stdout == ""


def test_credentials_that_others_could_read_or_that_are_another_roles_are_refused(tmp_path):
    _keck("c", directory=tmp_path)
    (tmp_path / "c" / "gateway.env").chmod(0o644)
    assert "gateway.env can be read by others" in _keck("c", directory=tmp_path, code=2).stderr
    (tmp_path / "c" / "gateway.env").chmod(0o600)
    (tmp_path / "c" / "compiler.env").write_text((tmp_path / "c" / "executor.env").read_text())
    assert "does not hold the credentials of compiler" in _keck("c", directory=tmp_path, code=2).stderr
