"""What callers of the original service see."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from keck.kinds import KINDS, kinds_with_routes
from keck.messages import Isolation

BOTH = {"cuda_code": "class ModelNew: ...\n", "torch_code": "class Model: ...\n"}


def _as_files(form: dict[str, str]) -> dict[str, tuple[None, str]]:
    """httpx sends multipart/form-data only for files; without a file name a part is a plain field."""
    return {name: (None, text) for name, text in form.items()}


@pytest.mark.parametrize("encoding", ["urlencoded", "multipart", "upload"])
async def test_a_passed_candidate_has_times_and_profile_in_any_form_encoding(gateway, worker, encoding):
    match encoding:
        case "urlencoded":
            response = await gateway.http.post("/compute_score", data=BOTH)
        case "multipart":
            response = await gateway.http.post("/compute_score", files=_as_files(BOTH))
        case _:
            files = {name: (f"{name}.py", text) for name, text in BOTH.items()}
            response = await gateway.http.post("/compute_score", files=files)
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"formated", "compiled", "passed", "msg"}
    assert (answer["formated"], answer["compiled"], answer["passed"]) == (True, True, True)
    assert answer["msg"] == {
        "torch_profile": {"torch": "torch table", "cuda": "cuda table"},
        "torch_time": pytest.approx(0.0092e-3),
        "cuda_time": pytest.approx(0.0084e-3),
        "speedup": 1.09,
    }
    [request] = worker.seen
    assert (request.candidate, request.reference) == (BOTH["cuda_code"], BOTH["torch_code"])
    assert (request.lane, request.options.tolerance, request.options.profile) == ("interactive", "keck", True)


async def test_source_text_survives_the_form_byte_for_byte(gateway, worker):
    source = "#!wrong_result\nx = 'a&b=c+d%20;é\u4f60\t\"' + '''\r\n'''\n"
    for response in (
        await gateway.http.post("/compute_score", data=BOTH | {"cuda_code": source}),
        await gateway.http.post("/compute_score", files=_as_files(BOTH | {"cuda_code": source})),
    ):
        assert response.status_code == 200
    assert [request.candidate for request in worker.seen] == [source, source]


VERDICTS = [
    ("format_error", 200, (False, False, False), "failed: format_error: this is format_error"),
    ("compile_error", 200, (True, False, False), "failed: compile_error: this is compile_error"),
    ("wrong_result", 200, (True, True, False), "failed: wrong_result: this is wrong_result"),
    ("reference_error", 422, (True, True, False), "failed: reference: "),
    ("cancelled", 409, (False, False, False), "failed: infrastructure: cancelled"),
    ("infra_error", 503, (False, False, False), "failed: infrastructure: infra_error (worker_lost)"),
    ("deadline_exceeded", 504, (False, False, False), "failed: infrastructure: deadline_exceeded"),
]


async def test_each_verdict_has_its_status_and_its_booleans(gateway):
    for verdict, status, booleans, start in VERDICTS:
        form = BOTH | {"cuda_code": f"#!{verdict}\n"}
        response = await gateway.http.post("/compute_score", data=form)
        answer = response.json()
        assert response.status_code == status, verdict
        assert (answer["formated"], answer["compiled"], answer["passed"]) == booleans, verdict
        assert answer["msg"].startswith(start)
        assert "head of the log" in answer["msg"]
        assert answer["msg"].endswith("last line of the log")
        assert len(answer["msg"]) < 4500
        assert ("retry-after" in response.headers) == (status == 503)


async def test_check_torch_takes_its_own_fields(gateway, worker):
    form = {"gt_torch": "class Model: ...\n", "to_check_torch": "class ModelNew: ...\n"}
    response = await gateway.http.post("/check_torch", data=form)
    assert response.json()["passed"] is True
    [request] = worker.seen
    assert (request.kind, request.candidate, request.reference) == (
        "torch",
        form["to_check_torch"],
        form["gt_torch"],
    )


@pytest.mark.parametrize("kind", kinds_with_routes(), ids=lambda kind: kind.name)
async def test_a_missing_field_is_no_error_but_says_which(gateway, worker, kind):
    fields = {kind.candidate_field: "class ModelNew: ...", kind.reference_field: "class Model: ..."}
    cases = [*({name: text} for name, text in fields.items()), {}, dict.fromkeys(fields, "  ")]
    for form in cases:
        response = await gateway.http.post(kind.route, data=form)
        answer = response.json()
        assert response.status_code == 200
        assert (answer["formated"], answer["compiled"], answer["passed"]) == (False, False, False)
        assert answer["msg"].startswith("failed: ")
        for name in fields:
            assert (f"`{name}`" in answer["msg"]) == (not form.get(name, "").strip())
    assert worker.seen == []


async def test_without_a_body_both_fields_are_lacking(gateway):
    response = await gateway.http.post("/compute_score")
    assert response.status_code == 200
    assert "`cuda_code`" in response.json()["msg"]


async def test_a_body_that_is_no_form_by_its_own_word_is_refused_in_the_originals_shape(gateway, worker):
    """Not a 200: no candidate was looked at, and a trainer would take it for one that failed."""
    for arguments in ({"json": BOTH}, {"content": b"x", "headers": {"Content-Type": "text/plain"}}):
        response = await gateway.http.post("/compute_score", **arguments)
        assert response.status_code == 415
        assert response.json()["msg"].startswith("failed: request: the body is ")
        assert "multipart/form-data" in response.json()["msg"]
    assert worker.seen == []


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
async def test_a_form_may_have_few_fields_and_no_crowd_of_them(gateway, encoding):
    def form(fields: dict[str, str]) -> dict[str, object]:
        if encoding == "urlencoded":
            return {"data": fields}
        return {"files": {name: (None, text) for name, text in fields.items()}}

    few = await gateway.http.post("/compute_score", **form(BOTH | {f"own{n}": "x" for n in range(10)}))
    assert few.status_code == 200, few.text
    assert few.json()["passed"] is True
    crowd = await gateway.http.post("/compute_score", **form(BOTH | {f"own{n}": "x" for n in range(20)}))
    assert crowd.status_code == 400
    assert "at most 16 fields" in crowd.json()["msg"]


async def test_of_a_field_that_comes_twice_the_first_counts(gateway, worker):
    content = b"cuda_code=first&torch_code=r&cuda_code=second"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await gateway.http.post("/compute_score", content=content, headers=headers)).status_code == 200
    assert worker.seen[0].candidate == "first"


async def test_a_source_that_is_too_large_is_its_authors_doing(gateway):
    large = "#" * 400_000
    response = await gateway.http.post("/compute_score", data=BOTH | {"cuda_code": large})
    assert (response.status_code, response.json()["formated"]) == (200, False)
    assert response.json()["msg"].startswith("failed: format_error")
    response = await gateway.http.post("/compute_score", data=BOTH | {"torch_code": large})
    assert response.status_code == 422
    assert response.json()["msg"].startswith("failed: reference")


async def test_errors_of_ours_keep_the_shape(start_gateway, worker):
    gateway = await start_gateway()
    await gateway.sees(executors=1)
    too_large = await gateway.http.post("/compute_score", data=BOTH | {"cuda_code": "#" * 3_000_000})
    malformed = await gateway.http.post(
        "/compute_score",
        content=b"no parts",
        headers={"Content-Type": "multipart/form-data; boundary=there-is-none"},
    )
    for response, status in ((too_large, 413), (malformed, 400)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"formated", "compiled", "passed", "msg"}
        assert response.json()["msg"].startswith("failed: ")


async def test_without_a_live_executor_the_answer_is_503(start_gateway):
    gateway = await start_gateway()
    response = await gateway.http.post("/compute_score", data=BOTH)
    _is_unavailable(response)


async def test_a_cuda_candidate_does_not_wait_for_a_cpu_executor(gateway, worker):
    cuda = BOTH | {"cuda_code": "load_inline('x', cpp_sources=c, cuda_sources=k)"}
    response = await gateway.http.post("/compute_score", data=cuda)
    _is_unavailable(response)
    assert "CUDA" in response.json()["msg"]
    empty = BOTH | {"cuda_code": "load_inline('x', cpp_sources=c, cuda_sources=[])"}
    assert (await gateway.http.post("/compute_score", data=empty)).json()["passed"] is True


def _is_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["msg"].startswith("failed: infrastructure: no live ")
    assert response.json()["passed"] is False


async def test_a_check_past_its_deadline_is_a_504(start_gateway, worker):
    gateway = await start_gateway(deadline_s=0.2)
    await gateway.sees(executors=1)
    response = await gateway.http.post("/compute_score", data=BOTH | {"cuda_code": "#!hold"})
    assert response.status_code == 504
    # Whoever is first says so: the waiting request, or the gateway that ends what is past its deadline.
    told = response.json()["msg"]
    assert told.startswith(
        ("failed: infrastructure: no verdict", "failed: infrastructure: deadline_exceeded")
    )


async def test_a_kind_that_is_registered_has_its_route(start_gateway, make_worker, monkeypatch):
    kind = dataclasses.replace(
        KINDS["torch"], name="new", route="/check_new", candidate_field="mine", reference_field="theirs"
    )
    monkeypatch.setitem(KINDS, "new", kind)
    gateway = await start_gateway()
    worker = await make_worker()
    await gateway.sees(executors=1)
    assert (await gateway.http.post("/check_new", data={"mine": "m"})).json()["formated"] is False
    response = await gateway.http.post("/check_new", data={"mine": "m", "theirs": "t"})
    assert response.json()["passed"] is True
    assert (worker.seen[0].kind, worker.seen[0].candidate) == ("new", "m")


CONTAINED = Isolation(level="A", user="own", landlock=7)


async def test_healthz_has_the_originals_fields_and_counts_what_is_free(gateway, beat, make_heartbeat):
    await beat(make_heartbeat("executor", target="sm90", busy=1))
    await beat(make_heartbeat("executor", target="sm80"))
    await beat(make_heartbeat("executor", target="sm75", state="quarantined"))
    await beat(
        make_heartbeat("compiler", worker="compiler-two", busy=1, cpus=4, slots=2, isolation=CONTAINED)
    )
    await gateway.sees(executors=4)
    response = await gateway.http.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {
        "nats_connected": True,
        "ray_initialized": True,
        "cluster_resources": {"CPU": 12, "GPU": 2},
        "available_resources": {"CPU": 10, "GPU": 1},
        "isolation": {"compiler-two": "A"},
    }
