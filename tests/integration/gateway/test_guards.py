"""Who may speak to the gateway, and where it may listen."""

from __future__ import annotations

import httpx
import pytest

FORM = {"cuda_code": "class ModelNew: ...", "torch_code": "class Model: ..."}


async def test_foreign_hosts_and_origins_are_refused_on_every_route(gateway, worker):
    port = gateway.url.rsplit(":", 1)[1]
    refused = [
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.0.2.7"},
        {"Host": "[2001:db8::1]:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": f"http://localhost.evil.example:{port}"},
        {"Origin": "file://"},
    ]
    for headers in refused:
        for method, path in (("POST", "/compute_score"), ("GET", "/healthz"), ("GET", "/nowhere")):
            response = await gateway.http.request(method, path, headers=headers)
            assert response.status_code == 403, headers
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == 403
            assert "KECK_ALLOWED_" in response.json()["detail"]
    assert worker.seen == []


async def test_the_gateways_own_names_and_no_origin_are_fine(gateway):
    port = gateway.url.rsplit(":", 1)[1]
    allowed = [
        {},
        {"Host": "localhost"},
        {"Host": f"LOCALHOST:{port}"},
        {"Host": "[::1]:8000"},
        {"Host": "127.9.9.9"},
        {"Origin": gateway.url},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
    ]
    for headers in allowed:
        response = await gateway.http.get("/healthz", headers=headers)
        assert response.status_code == 200, headers


async def test_an_operator_may_list_hosts_and_origins(start_gateway):
    gateway = await start_gateway(
        allowed_hosts="keck.example, other.example", allowed_origins="https://board.example"
    )
    for headers in (
        {"Host": "keck.example:443"},
        {"Host": "Other.Example"},
        {"Origin": "https://board.example"},
        {"Host": "keck.example", "Origin": "https://keck.example"},
    ):
        assert (await gateway.http.get("/healthz", headers=headers)).status_code == 200, headers
    for headers in ({"Host": "third.example"}, {"Origin": "http://board.example"}):
        assert (await gateway.http.get("/healthz", headers=headers)).status_code == 403, headers


async def test_with_a_token_every_route_but_healthz_asks_for_it(start_gateway):
    gateway = await start_gateway(token="s3cret")
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        paths = [
            "/v1/executors",
            "/metrics",
            "/v1/checks/x",
            "/openapi.json",
            "/docs",
            "/nowhere",
            "/healthz/",
        ]
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer s3cret2"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer \u00e9".encode("latin-1")},
        ):
            for path in paths:
                response = await http.get(path, headers=headers)
                assert response.status_code == 401, (path, headers)
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.headers["content-type"] == "application/problem+json"
                assert "KECK_TOKEN" in response.json()["detail"]
            assert (await http.post("/compute_score", data=FORM, headers=headers)).status_code == 401
        assert (await http.get("/healthz")).status_code == 200
    assert (await gateway.http.get("/v1/executors")).status_code == 200
    assert (await gateway.http.get("/v1/executors", headers={"Host": "evil.example"})).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0"])
async def test_beyond_loopback_the_machines_addresses_are_its_own(start_gateway, host):
    gateway = await start_gateway(http_host=host, token="s3cret")
    assert (await gateway.http.get("/healthz", headers={"Host": "192.0.2.7:8000"})).status_code == 200
    assert (await gateway.http.get("/healthz", headers={"Host": "evil.example"})).status_code == 403
