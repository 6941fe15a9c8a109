"""A batch's lines are the same however the body is cut into parts."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keck import BadRequest, CheckRequested, EvalDone
from keck.messages import new_request
from keck.testing import sample_eval_done
from keck_gateway.batch import Batch

LINES = st.lists(
    st.one_of(
        st.builds(
            lambda name: json.dumps({"candidate": "new", "reference": "old", "check_id": name}).encode(),
            st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
        ),
        st.sampled_from([b"", b"   ", b"{", b"\xff", b'{"candidate": 1}', b"[" * 2000, '"\u2028"'.encode()]),
        st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")),
    ),
    max_size=12,
)


class Desk:
    """Answers at once; what a line becomes is all that is looked at here."""

    def request_of(self, body: Any, *, lane: Any) -> CheckRequested:
        if not body.candidate:
            raise BadRequest("empty")
        return new_request(body.candidate, body.reference, check_id=body.check_id or "", lane=lane)

    async def judge(self, request: CheckRequested, **_: Any) -> EvalDone:
        return sample_eval_done(request)


async def answered(parts: list[bytes]) -> list[tuple[int, str, str | None]]:
    batch = Batch(Desk())  # type: ignore[arg-type]
    for part in parts:
        batch.take(part)
        await asyncio.sleep(0)
    batch.end()
    lines = [json.loads(line) async for line in batch.answers() if line.strip()]
    return sorted((line["line"], line["type"].partition(":")[0], line["check_id"]) for line in lines)


@given(LINES, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_a_body_means_the_same_however_it_is_cut(lines: list[bytes], cuts: list[int], ends: bool) -> None:
    body = b"\n".join(lines) + b"\n" * ends
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    parts = [body[begin:end] for begin, end in pairwise(places)]

    async def both() -> SimpleNamespace:
        return SimpleNamespace(whole=await answered([body]), cut=await answered(parts))

    found = asyncio.run(both())
    assert found.whole == found.cut
    told = [line for line in lines if line.strip()]
    assert [line for line, _, _ in found.whole] == list(range(1, len(told) + 1))
