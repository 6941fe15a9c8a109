"""The gateway as a process on a real bus: whatever is sent, an answer in time, in shape, and a gateway that lives."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keck.messages import Options

ANSWER_S = 30.0
"""No request here waits for a judge for longer; most answers take milliseconds."""
GATEWAY_MIB = 512
RAW_BODY_BYTES = 3 << 20
"""More than the gateway takes."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def gateway(system):
    """The system's gateway, which must be the same process afterwards, and no larger than it may be."""
    died = len(system.deaths)
    system.log("gateway")
    yield system
    assert system.deaths[died:] == []
    assert httpx.get(f"{system.http_url}/healthz", timeout=ANSWER_S).json()["nats_connected"] is True
    assert system.resident_mib("gateway") < GATEWAY_MIB
    # It logs errors only; a traceback is an exception that nobody foresaw, whatever was answered.
    assert unforeseen(system.log("gateway"))[:4_000] == ""


def unforeseen(log: str) -> str:
    """The log without what uvicorn says where it has refused a malformed body that the application was reading.

    The answer, 400, is sent and the connection closed by then; the application's own answer meets a closed h11.
    """
    entries = re.split(r"^(?=uvicorn\.error: )", log, flags=re.MULTILINE)
    return "".join(
        entry for entry in entries if "h11._util.LocalProtocolError" not in entry or "request_failed" in entry
    )


def assert_allowed(status: int, what: object) -> None:
    assert status < 500 or status in (503, 504), (status, what)


# --- By the gateway's own description of itself


_STREAMS = ("text/event-stream", "application/x-ndjson")


@schemathesis.serializer("application/x-ndjson")
def lines(context: object, value: object) -> bytes:
    """The schema of a batch is a text; what is made of it is sent as it is."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@pytest.mark.fuzz(share=6)
def test_requests_made_from_the_openapi_document_are_answered_as_it_says(fuzz, gateway):
    document = httpx.get(f"{gateway.http_url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [result.ok() for result in schema.get_all_operations()]
    cases = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        # What has no parameters cannot be asked wrongly.
        if mode is GenerationMode.POSITIVE or operation.body or any(True for _ in operation.iter_parameters())
    ]
    with requests.Session() as session:
        session.trust_env = False

        def check(case: Any) -> None:
            response = case.call(base_url=gateway.http_url, session=session, timeout=ANSWER_S)
            assert_allowed(response.status_code, case.as_curl_command()[:2_000])
            checks = [status_code_conformance, content_type_conformance]
            if not any(kind in str(response.headers.get("content-type")) for kind in _STREAMS):
                # A stream's schema is that of its text; schemathesis takes it for that of each event.
                checks.append(response_schema_conformance)
            try:
                case.validate_response(response, checks=checks)
            except FailureGroup as group:
                raise AssertionError(str(group)[:4_000]) from group

        fuzz(st.one_of(cases), check, examples=50, cpu_s=20.0)


# --- Forms that no client makes

_KINDS = {"/compute_score": ("cuda_code", "torch_code"), "/check_torch": ("gt_torch", "to_check_torch")}
_TYPES = st.sampled_from(
    [
        "", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-16",
        "application/x-www-form-urlencoded; charset=", "multipart/form-data", "multipart/form-data; boundary=b",
        'multipart/form-data; boundary="b', "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 300,
        "multipart/mixed; boundary=b", "application/json", "text/plain; charset=no-such", "multipart/form-data; boundary=b; boundary=c",
        "MULTIPART/FORM-DATA; BOUNDARY=b", ";", "a/b/c", "application/msgpack", "multipart/form-data; boundary=\xe9",
    ]
)  # fmt: skip
_HEADERS = st.sampled_from(
    [
        b"", b"Content-Type: text/plain; charset=no-such\r\n", b"Content-Type: application/json\r\n", b"X: \xff\r\n",
        b"Content-Type: text/plain; charset=utf-7\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Content-Length: 99999999999\r\n",
        b"X: " + b"x" * 100_000 + b"\r\n", b"X: y\r\n" * 2_000, b"no colon\r\n", b": empty\r\n", b"Content-Disposition: form-data\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
    ]
)  # fmt: skip
_FIELDS = st.sampled_from([name.encode() for names in _KINDS.values() for name in names]) | st.binary(
    max_size=8
)


@st.composite
def _multipart(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from([b"", b"preamble\r\n", b"\r\n"])))
    for _ in range(draw(st.integers(0, 3))):
        name, header = draw(_FIELDS), draw(_HEADERS)
        extra = draw(
            st.sampled_from(
                [
                    b"",
                    b'; filename="x.py"',
                    b"; filename*=utf-8''%ff",
                    b'; name="y"',
                    b'; filename="' + b"n" * 9_000 + b'"',
                ]
            )
        )
        content = draw(st.binary(max_size=40))
        body += b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n%s\r\n' % (
            name,
            extra,
            header,
            content,
        )
    return bytes(body) + draw(st.sampled_from([b"--b--\r\n", b"--b--", b"", b"--b", b"\r\n--b\r\n", b"--b-"]))


_URLENCODED = st.one_of(
    st.lists(st.tuples(_FIELDS, st.binary(max_size=20)), max_size=4).map(
        lambda pairs: b"&".join(b"%s=%s" % (name, quote(value).encode()) for name, value in pairs)
    ),
    st.binary(max_size=100),
    st.text(max_size=40).map(lambda text: f"cuda_code={text}&cuda_code=%FF&torch_code".encode()),
    st.sampled_from(
        [b"cuda_code=%ZZ&torch_code=%", b"=&=&=", b"cuda_code[]=x&cuda_code[a]=y", b"+" * 2_000, b"%00" * 500]
    ),
)
_COUNTS = st.integers(1, 200_000)
_MANY = st.one_of(
    _COUNTS.map(lambda n: b"&" * n),
    _COUNTS.map(lambda n: b"a&" * n),
    _COUNTS.map(lambda n: b"cuda_code=x&" * (n // 8)),
    _COUNTS.map(lambda n: b"".join(b"%d=&" % i for i in range(n))),
    _COUNTS.map(
        lambda n: b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * (n // 8) + b"--b--\r\n"
    ),
    _COUNTS.map(lambda n: b"--b\r\n" * n),
    _COUNTS.map(lambda n: b'--b\r\nContent-Disposition: form-data; name="a"' + b"; a=b" * n),
    _COUNTS.map(lambda n: b'--b\r\nContent-Disposition: form-data; name="' + b'\\"' * n),
    _COUNTS.map(lambda n: b"\r" * n + b"--b"),
    _COUNTS.map(
        lambda n: (
            b'--b\r\nContent-Disposition: form-data; name="cuda_code"\r\n\r\n' + b"\r\n--" * n + b"\r\n--b--"
        )
    ),
    st.just(b"cuda_code=" + b"x" * RAW_BODY_BYTES),
    st.just(b'--b\r\nContent-Disposition: form-data; name="cuda_code"\r\n\r\n' + b"x" * RAW_BODY_BYTES),
)


@pytest.mark.fuzz(share=4)
def test_forms_of_any_bytes_are_answered_in_shape(fuzz, gateway):
    with httpx.Client(base_url=gateway.http_url, timeout=ANSWER_S) as http:

        def check(drawn: tuple[str, str, bytes]) -> None:
            path, kind, body = drawn
            headers = {"Content-Type": kind.encode("latin-1")} if kind else {}
            began = time.monotonic()
            response = http.post(path, content=body, headers=headers)
            assert_allowed(response.status_code, (path, kind, body[:300]))
            # By far most of it is the one large body's way through.
            assert time.monotonic() - began < 10.0, (path, kind, body[:300])
            answer = response.json()
            assert set(answer) == {"formated", "compiled", "passed", "msg"}
            assert answer["msg"].startswith("failed: ")
            assert len(response.content) < 100_000

        fuzz(
            st.tuples(
                st.sampled_from(sorted(_KINDS)),
                _TYPES,
                st.one_of(_multipart(), _URLENCODED, _URLENCODED, _MANY),
            ),
            check,
            examples=50,
            cpu_s=20.0,
        )


# --- JSON that no client makes

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_BODY_FIELDS = ("candidate", "reference", "kind", "run", "check_id", "lane", "deadline_s")
_OPTIONS = st.dictionaries(st.sampled_from(Options.__struct_fields__), _SCALARS, max_size=3)
_BODIES = st.one_of(
    st.binary(max_size=80),
    _ANY.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda fields, options: json.dumps({"candidate": "c", "reference": "r"} | fields | options).encode(),
        st.dictionaries(st.sampled_from(_BODY_FIELDS), _ANY, max_size=3),
        st.fixed_dictionaries({}, optional={"options": _OPTIONS | _ANY}),
    ),
    st.tuples(st.sampled_from([b"[", b'{"a":', b'{"candidate":', b'{"options":{"a":']), st.integers(1, 200_000)).map(
        lambda drawn: drawn[0] * drawn[1]
    ),
    _COUNTS.map(lambda n: b'{"candidate":"c","reference":"r","deadline_s":' + b"9" * n + b"}"),
    _COUNTS.map(lambda n: b'{"candidate":"c","reference":"r","options":{"atol":1e' + b"9" * n + b"}}"),
    _COUNTS.map(lambda n: b'{"candidate":"' + b"\\n" * n + b'","reference":"r"}'),
    _COUNTS.map(lambda n: b'{"candidate":"' + b"\\ud800" * (n // 8) + b'","reference":"r"}'),
    _COUNTS.map(lambda n: b"{" + b",".join(b'"%d":0' % i for i in range(n)) + b"}"),
    st.just(b'{"candidate":"' + b"x" * RAW_BODY_BYTES + b'","reference":"r"}'),
)  # fmt: skip


@pytest.mark.fuzz(share=4)
def test_json_of_any_bytes_is_answered_in_shape(fuzz, gateway):
    with httpx.Client(base_url=gateway.http_url, timeout=ANSWER_S) as http:

        def check(body: bytes) -> None:
            began = time.monotonic()
            response = http.post("/v1/checks", content=body)
            answer = response.json()
            assert response.status_code in (202, 400, 409, 413, 429), (body[:300], response.text[:2_000])
            assert set(answer) >= (
                {"check_id"} if response.status_code == 202 else {"type", "title", "detail"}
            )
            assert time.monotonic() - began < 10.0, body[:300]
            assert len(response.content) < 100_000
            if response.status_code == 202:
                state = http.get(answer["links"]["self"])
                assert state.status_code == 200, (body[:300], state.text[:2_000])
                assert state.json()["type"] in ("eval.done", "check.state")

        fuzz(
            _BODIES,
            check,
            known=[
                # Blank lines, as many as a candidate may have: the search for an import of Triton took minutes, during
                # which the gateway answered nobody.
                json.dumps(
                    {"candidate": "\n" * 380_000, "reference": "r", "options": {"device": "auto"}}
                ).encode(),
            ],
            examples=50,
            cpu_s=20.0,
        )


# --- Addresses and headers

_SEGMENTS = st.text(max_size=12) | st.sampled_from(
    ["x", "*", ">", "a.b", "..", "%", "%00", "%0a", "a" * 64, "a" * 65, "a" * 5_000, " ", "é", "x/y", "x\n"]
)
_NUMBERS = st.integers().map(str) | st.sampled_from(
    [
        "9" * 100,
        "9" * 3_000,
        "9" * 4_500,
        "1e3",
        "nan",
        "inf",
        "-inf",
        "-0",
        "0x1",
        "",
        " 1",
        "1_0",
        "٣",
        "1e400",
    ]
)


@pytest.mark.fuzz(share=3)
def test_addresses_of_any_text_are_answered(fuzz, gateway):
    with httpx.Client(base_url=gateway.http_url, timeout=ANSWER_S) as http:

        def check(drawn: tuple[str, str, str, str]) -> None:
            path, check_id, run, generation = drawn
            query = f"run={quote(run, safe='')}&generation={quote(generation, safe='')}&wait={quote(generation, safe='')}"
            if path.startswith("POST "):
                response = http.post(f"{path[5:]}?{query}", json={"candidate": "c", "reference": "r"})
            else:
                response = http.get(f"{path.replace('ID', quote(check_id, safe=''))}?{query}")
            assert response.status_code != 503, response.text[:500]
            assert_allowed(response.status_code, (path, query, response.text[:500]))

        fuzz(
            st.tuples(st.sampled_from(["/v1/checks/ID", "/v1/checks/ID/events", "/ID", "POST /v1/checks"]), _SEGMENTS, _SEGMENTS, _NUMBERS),
            check,
            known=[
                # A generation of a few thousand digits made a subject longer than the line that the server takes.
                ("/v1/checks/ID", "x", "default", "9" * 4_200),
                ("/v1/checks/ID/events", "x", "default", "9" * 3_000),
                # Refused for its address before its body was read, it was answered by a reset.
                ("POST /v1/checks", "r" * 20, "a" * 3_000, "0"),
            ],
            examples=50,
            cpu_s=20.0,
        )  # fmt: skip


_REQUESTS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda method, path, headers, body: b"%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s" % (method, path, b"".join(headers), body),
        st.sampled_from([b"GET", b"POST", b"DELETE", b"get", b"PUT", b"OPTIONS", b"CONNECT", b"X" * 300]),
        st.sampled_from([b"/healthz", b"/v1/checks", b"/compute_score", b"*", b"//", b"/\xff", b"/%ff", b"http://[::1/", b"/" + b"a" * 70_000]),
        st.lists(
            st.sampled_from(
                [
                    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", b"Host: x\r\n",
                    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 100-continue\r\n",
                    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Content-Type: \xff\r\n", b"Authorization: \xff\r\n",
                    b"Origin: http://[\r\n", b"Origin: null\r\n", b"Cookie: " + b"a=b;" * 2_000 + b"\r\n", b"X:\0\r\n", b"A: b\r\n" * 200,
                    b"Accept: */*;q=x\r\n", b"Content-Encoding: gzip\r\n", b"Range: bytes=9-1\r\n", b"Content-Type: application/json\r\n",
                ]
            ),
            max_size=4,
        ),
        st.sampled_from([b"", b"{}", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;x=y\r\nhel", b"0\r\n\r\n"]),
    ),
)  # fmt: skip
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.mark.fuzz(share=2)
def test_requests_of_any_bytes_do_no_harm(fuzz, gateway):
    address = urlsplit(gateway.http_url)

    def check(data: bytes) -> None:
        with socket.create_connection((address.hostname, address.port), timeout=ANSWER_S) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = bytearray()
            try:
                while piece := sock.recv(65_536):
                    answer += piece
            except ConnectionResetError:
                return
        for status in _STATUS.findall(bytes(answer[:200])):
            assert_allowed(int(status), data[:500])
        assert unforeseen(gateway.log("gateway"))[-3_000:] == "", data[:500]

    fuzz(_REQUESTS, check, cpu_s=20.0)
