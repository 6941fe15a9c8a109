"""Whatever is sent, the answer is a status below 500 in the route's own shape."""

from __future__ import annotations

import asyncio
import json
from typing import TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from keck.messages import Options

_T = TypeVar("_T")
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("candidate", "reference", "kind", "run", "check_id", "lane", "deadline_s")
_OPTIONS = st.dictionaries(st.sampled_from(Options.__struct_fields__), _SCALARS, max_size=3)
_BODIES = st.one_of(
    st.binary(max_size=80),
    _ANY.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda fields, options: json.dumps({"candidate": "c", "reference": "r"} | fields | options).encode(),
        st.dictionaries(st.sampled_from(_FIELDS), _ANY, max_size=3),
        st.fixed_dictionaries({}, optional={"options": _OPTIONS | _ANY}),
    ),
)
_FORM_TYPES = st.sampled_from(
    [
        "",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-16",
        "multipart/form-data",
        "multipart/form-data; boundary=b",
        "application/json",
        "text/plain; charset=nonsense",
    ]
)
_PART = b'--b\r\nContent-Disposition: form-data; name="cuda_code"%s\r\n%s\r\n%s\r\n'
_FORMS = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: f"cuda_code={text}&cuda_code=%FF&torch_code".encode()),
    st.builds(
        lambda file, header, text, end: _PART % (file, header, text) + end,
        st.sampled_from([b"", b'; filename="x.py"', b"; filename*=utf-8''x"]),
        st.sampled_from([b"", b"Content-Type: text/plain; charset=no-such\r\n", b"X: \xff\r\n"]),
        st.binary(max_size=30),
        st.sampled_from([b"--b--\r\n", b"", b"--b"]),
    ),
)


async def test_any_body_gets_an_answer_in_shape(start_gateway):
    """Examples are drawn first and sent together: hypothesis itself runs no event loop."""
    gateway = await start_gateway()
    bodies = _drawn(_BODIES)
    forms = _drawn(st.tuples(_FORM_TYPES, _FORMS))

    async def submit(body: bytes) -> None:
        response = await gateway.http.post("/v1/checks", content=body)
        answer = response.json()
        assert response.status_code in (202, 400, 409), (body, response.text)
        assert set(answer) >= ({"check_id"} if response.status_code == 202 else {"type", "title", "detail"})

    async def post_form(content_type: str, body: bytes) -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        response = await gateway.http.post("/compute_score", content=body, headers=headers)
        # No form here has both fields, so none may reach a judge.
        assert response.status_code in (200, 400, 415), (content_type, body, response.text)
        assert response.json()["msg"].startswith("failed: ")

    for body in bodies:
        await submit(body)
    await asyncio.gather(*(post_form(kind, body) for kind, body in forms))


def _drawn(strategy: st.SearchStrategy[_T]) -> list[_T]:
    """Some dozens of examples."""
    drawn: list[_T] = []

    @settings(max_examples=60, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def draw(example: _T) -> None:
        drawn.append(example)

    draw()
    return drawn
