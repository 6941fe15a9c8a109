"""Tokens with roles: who may do what, and files that are refused at the start."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from keck.errors import SettingError
from keck.settings import Settings
from keck_gateway.routes import route_handlers
from keck_gateway.tokens import Role, Tokens, role_needed

WATCHER, TRAINER, OPERATOR = (f"{name}-0123456789abcdef" for name in ("watcher", "trainer", "operator"))
CHECK = {"candidate": "class ModelNew: ...", "reference": "class Model: ..."}
FORM = {"cuda_code": "class ModelNew: ...", "torch_code": "class Model: ..."}


def _file(directory: Path, text: str, *, mode: int = 0o600) -> str:
    file = directory / "tokens"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    hashed = hashlib.sha256(OPERATOR.encode()).hexdigest()
    return _file(tmp_path, f"# who\nobserve {WATCHER}\n\nsubmit   {TRAINER}\nadmin sha256:{hashed.upper()}\n")


async def test_each_role_may_do_what_it_is_for_and_is_told_what_it_lacks(start_gateway, worker, tokens_file):
    gateway = await start_gateway(tokens_file=tokens_file, token="the-operators-own")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:

        async def status(token: str, method: str, path: str, **body: object) -> int:
            response = await http.request(method, path, headers={"Authorization": f"Bearer {token}"}, **body)
            if response.status_code == 403:
                problem = response.json()
                assert problem["type"] == "urn:keck:problem:role"
                assert f"{method} {path} needs a token of the role submit" in problem["detail"]
                assert problem["detail"].endswith("this one's is observe")
                assert response.headers["content-type"] == "application/problem+json"
            return response.status_code

        for token in (WATCHER, TRAINER, OPERATOR, "the-operators-own"):
            for path in ("/v1/executors", "/docs", "/openapi.json"):
                assert await status(token, "GET", path) == 200
            assert await status(token, "GET", "/v1/checks/unknown") == 404
        assert await status(WATCHER, "POST", "/v1/checks", json=CHECK) == 403
        assert await status(WATCHER, "POST", "/compute_score", data=FORM) == 403
        assert await status(WATCHER, "DELETE", "/v1/checks/any") == 403
        assert worker.seen == []
        for token in (TRAINER, OPERATOR, "the-operators-own"):
            assert await status(token, "POST", "/v1/checks", json=CHECK) == 202
        assert (await http.get("/v1/executors")).status_code == 401
        for wrong in ("observe", WATCHER[:-1], f"{WATCHER}x", WATCHER.upper(), "sha256:" + "0" * 64):
            assert await status(wrong, "GET", "/v1/executors") == 401
        twice = [("Authorization", f"Bearer {TRAINER}"), ("Authorization", f"Bearer {OPERATOR}")]
        assert (await http.get("/v1/executors", headers=twice)).status_code == 401


def test_every_route_has_a_role_that_somebody_chose():
    needed = {
        (method, path): role_needed(method, re.sub(r"{[^}]*}", "x", path))
        for handler in route_handlers()
        for path in handler.paths
        for method in handler.http_methods
    }
    assert {role for (method, _), role in needed.items() if method == "GET"} == {Role.OBSERVE}
    assert {role for (method, _), role in needed.items() if method != "GET"} == {Role.SUBMIT}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/replay"), ("DELETE", "/v1/executors"), ("PUT", "/"), ("POST", "/v1/checksx")],
)
def test_what_nobody_thought_of_needs_the_highest_role(method, path):
    assert role_needed(method, path) is Role.ADMIN


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no token"),
        ("# only a comment\n", "holds no token"),
        (f"observe {WATCHER}\nsubmit\n", "line 2: must be a role"),
        (f"root {WATCHER}\n", "line 1: must be a role (observe, submit, admin)"),
        (f"submit {WATCHER} more\n", "line 1: must be a role"),
        ("submit short-token\n", "line 1: a token of fewer than 16 letters"),
        ("submit sha256:12\n", "line 1: after sha256: there must be 64"),
        (f"submit sha256:{hashlib.sha256(b'').hexdigest()}\n", "line 1: this is the digest of nothing"),
        (f"observe {WATCHER}\nadmin {WATCHER}\n", "line 2: this token is there already"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_line_and_without_its_tokens(tmp_path, text, says):
    with pytest.raises(SettingError, match=re.escape(says)) as refused:
        Tokens.of(Settings(tokens_file=_file(tmp_path, text)))
    assert "KECK_TOKENS_FILE" in str(refused.value)
    assert WATCHER not in str(refused.value)
    assert "short-token" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "mode", "says"),
    [
        (f"submit {TRAINER}", 0o640, "can be read by others"),
        (f"submit {TRAINER}", 0o604, "can be read by others"),
        (f"submit sha256:{'a' * 64}", 0o620, "can be written by others"),
        (f"submit sha256:{'a' * 64}", 0o644, None),
        (f"submit {TRAINER}", 0o400, None),
    ],
)
def test_a_file_that_others_could_use_is_refused(tmp_path, line, mode, says):
    settings = Settings(tokens_file=_file(tmp_path, line, mode=mode))
    if says is None:
        assert Tokens.of(settings)
        return
    with pytest.raises(SettingError, match=says):
        Tokens.of(settings)


@pytest.mark.parametrize(("name", "says"), [("nothing", "no such file"), (".", "is a directory")])
def test_a_process_with_a_file_that_is_none_ends_in_one_line(tmp_path, name, says):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KECK_")}
    outcome = subprocess.run(
        [sys.executable, "-m", "keck_gateway"],
        env=kept | {"KECK_TOKENS_FILE": str(tmp_path / name), "KECK_HTTP_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == 2
    assert says in outcome.stderr
    assert outcome.stderr.count("\n") == 1
