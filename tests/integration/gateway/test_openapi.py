"""The OpenAPI document, and the page made of it."""

from __future__ import annotations

import json
import re

from keck.kinds import kinds_with_routes
from keck.messages import EvalDone, Options


async def test_the_document_names_every_route_body_and_answer(start_gateway):
    gateway = await start_gateway()
    response = await gateway.http.get("/openapi.json")
    assert response.status_code == 200
    document = response.json()
    assert document["openapi"].startswith("3.1")
    routes = {(method, path) for path, item in document["paths"].items() for method in item}
    assert routes == {
        ("post", "/v1/checks"),
        ("get", "/v1/checks/{check_id}"),
        ("delete", "/v1/checks/{check_id}"),
        ("post", "/v1/replays"),
        ("post", "/v1/batches"),
        ("get", "/v1/checks/{check_id}/events"),
        ("get", "/v1/runs/{run}/events"),
        ("get", "/v1/executors"),
        ("get", "/v1/load"),
        ("get", "/healthz"),
        ("get", "/metrics"),
        ("post", "/trainers/slime"),
        ("post", "/trainers/openrlhf"),
        ("post", "/seed_session"),
        ("post", "/verify"),
        *(("post", kind.route) for kind in kinds_with_routes()),
    }
    schemas = document["components"]["schemas"]
    assert {
        "EvalDone",
        "CheckState",
        "Accepted",
        "Problem",
        "CheckBody",
        "Heartbeat",
        "LegacyAnswer",
        "ReplayBody",
        "ReplayProgress",
    } <= set(schemas)
    assert set(schemas["EvalDone"]["properties"]) == {"type", *EvalDone.__struct_fields__}
    assert set(schemas["CheckOptions"]["properties"]) == set(Options.__struct_fields__)
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', response.text):
        assert reference in schemas
    assert "examples" not in schemas["EvalDone"]["properties"]["message"]

    submit = document["paths"]["/v1/checks"]["post"]
    assert {"200", "202", "400", "401", "403", "409", "413", "429", "503"} <= set(submit["responses"])
    assert "application/problem+json" in submit["responses"]["429"]["content"]
    assert [parameter["name"] for parameter in submit["parameters"]] == ["wait"]
    for kind in kinds_with_routes():
        operation = document["paths"][kind.route]["post"]
        assert {"200", "409", "422", "429", "503", "504"} <= set(operation["responses"])
        for form in ("multipart/form-data", "application/x-www-form-urlencoded"):
            schema = operation["requestBody"]["content"][form]["schema"]
            assert set(schema["required"]) == {kind.candidate_field, kind.reference_field}
    json.dumps(document, allow_nan=False)


async def test_the_docs_page_shows_every_route_and_loads_nothing_from_anywhere(start_gateway):
    gateway = await start_gateway()
    page = await gateway.http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    document = (await gateway.http.get("/openapi.json")).json()
    for path in document["paths"]:
        assert path in page.text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert not re.search(r"https?://", page.text)
    assert not re.search(r"<(script|link|img|iframe)\b", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
