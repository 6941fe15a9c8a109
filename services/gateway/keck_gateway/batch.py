"""A batch: checks as lines of JSON in, verdicts as lines of JSON out, in the order in which they are decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from keck.errors import BadRequest
from keck.messages import DECODING_ERRORS, EvalDone, to_json
from keck_gateway.bodies import CheckBody
from keck_gateway.desk import Desk
from keck_gateway.problems import MAX_BODY_BYTES, BodyTooLarge, Problem, problem_of, retry_after_s

__all__ = ["MAX_LINES", "Batch", "BatchProblem", "BatchVerdict"]

MAX_LINES: Final = 1_024
"""Checks of one batch; what is decided is kept until the caller reads it, so there is an end to how much that is."""
_KEEP_ALIVE_S: Final = 15.0
"""An empty line this often tells proxies and callers that the batch is alive."""

_body = msgspec.json.Decoder(CheckBody)


class BatchVerdict(EvalDone, frozen=True, kw_only=True, tag_field="type", tag="eval.done"):
    """The verdict on the check of one line."""

    line: int
    """Which line of the request, from 1."""


class BatchProblem(Problem, frozen=True, kw_only=True):
    """Why there is no verdict on the check of one line; its `type` begins with ``urn:keck:problem:``."""

    line: int
    check_id: str | None
    """As the line gave it."""
    retry_after_s: float | None
    """Seconds after which the line may be sent again; null: it would end the same way."""


class Batch:
    """One batch: takes the body as it comes, and gives what is to be sent back."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rest = bytearray()
        self._lines = 0
        self._refused = False
        self._ended = False
        self._judging: set[asyncio.Task[None]] = set()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()

    def take(self, chunk: bytes) -> None:
        """Begin with the checks of the lines that this part of the body completes."""
        if self._refused:
            return  # read all the same: many a client reads no answer before all is sent
        # Only what is new is looked through: a long line comes in many parts.
        begin = len(self._rest)
        self._rest += chunk
        while not self._refused and (end := self._rest.find(b"\n", begin)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            begin = 0
            self._begin(line)
        if len(self._rest) > MAX_BODY_BYTES:
            self._refuse(f"a line has more than {MAX_BODY_BYTES} bytes; it and what follows it was not read")

    def end(self) -> None:
        """The body is complete."""
        if not self._refused:
            self._begin(bytes(self._rest))
        self._rest.clear()
        self._ended = True
        self._out.put_nowait(b"")

    async def answers(self) -> AsyncIterator[bytes]:
        """Lines of JSON until every check has its own; an empty line where there is nothing for a while."""
        while not (self._ended and not self._judging and self._out.empty()):
            try:
                line = await asyncio.wait_for(self._out.get(), _KEEP_ALIVE_S)
            except TimeoutError:
                line = b""
            if line or not self._ended or self._judging:
                yield line + b"\n"

    async def give_up(self) -> None:
        """Wait for nothing more; what was stored is judged all the same."""
        self._ended = True
        for task in self._judging:
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)

    def _begin(self, raw: bytes) -> None:
        if not raw.strip():
            return
        if self._lines == MAX_LINES:
            self._refuse(f"a batch has at most {MAX_LINES} lines; this one and what follows it was not read")
            return
        self._lines += 1
        task = asyncio.create_task(self._judge(self._lines, raw))
        self._judging.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._judging.discard(task)
        if not self._judging:
            self._out.put_nowait(b"")  # `answers` may be waiting for the last

    def _refuse(self, why: str) -> None:
        """Tell of a line that is not read, nor is any after it."""
        self._refused = True
        self._rest.clear()
        self._out.put_nowait(to_json(_problem(BodyTooLarge(why), self._lines + 1, None)))

    async def _judge(self, line: int, raw: bytes) -> None:
        check_id: str | None = None
        try:
            body = _decoded(raw)
            check_id = body.check_id
            event = await self._desk.judge(
                self._desk.request_of(body, lane="bulk"),
                id_is_callers=check_id is not None,
                needs_executor=False,
            )
            assert event is not None, "without a waiting time there is a verdict or an exception"
            answer = to_json(BatchVerdict(**msgspec.structs.asdict(event), line=line))
        except Exception as error:  # noqa: BLE001 - a line's boundary, as `problem_response` is a request's
            answer = to_json(_problem(error, line, check_id))
        self._out.put_nowait(answer)


def _decoded(raw: bytes) -> CheckBody:
    try:
        return _body.decode(raw)
    except DECODING_ERRORS as error:
        raise BadRequest(f"not the JSON of a check: {error}") from error


def _problem(error: Exception, line: int, check_id: str | None) -> BatchProblem:
    problem = problem_of(error, where=f"line {line} of a batch")
    return BatchProblem(
        type=problem.type,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        line=line,
        check_id=check_id,
        retry_after_s=retry_after_s(error),
    )
