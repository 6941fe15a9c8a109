"""Checks that wait share connections: one ``POST /v1/batches`` for all that are asked for at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from keck._transport._lines import lines_of
from keck._transport._problems import error_for, error_of
from keck.errors import KeckError, Unavailable
from keck.messages import DECODING_ERRORS, EvalDone

__all__ = ["Batches"]

_GATHER_S: Final = 0.02
"""What is asked for within this time travels together."""
_MAX_LINES: Final = 256
_MAX_BYTES: Final = 8 << 20
"""A batch that breaks is sent again."""
_SILENCE_S: Final = 60.0
"""A batch this long without a byte is dead: the gateway sends an empty line every few seconds."""
_CONNECT_TIMEOUT_S: Final = 5.0

_verdict = msgspec.json.Decoder(EvalDone)


class _Line(msgspec.Struct, frozen=True):
    """What an answer's line says of itself, whichever of the two it is."""

    type: str
    line: int
    status: int = 0
    detail: str = ""
    retry_after_s: float | None = None


_line = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    body: bytes
    future: asyncio.Future[EvalDone]


class Batches:
    """Gathers checks, carries each batch to its end, and takes up what a broken connection left.

    Every check must have an id, so that sending it again is the same check.

    Args:
        http: of one gateway.
        pauses_s: between attempts at a gateway that does not answer.
    """

    def __init__(self, http: httpx.AsyncClient, *, pauses_s: Sequence[float]) -> None:
        self._http = http
        self._pauses_s = pauses_s
        self._gathered: list[_Asked] = []
        self._timer: asyncio.TimerHandle | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def judge(self, body: bytes) -> EvalDone:
        """The verdict on the check whose JSON this is.

        Raises:
            KeckError: what the gateway refused, or Unavailable if it does not answer.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(body, loop.create_future())
        self._gathered.append(asked)
        if self._timer is None:
            self._timer = loop.call_later(_GATHER_S, self._send)
        try:
            return await asked.future
        finally:
            asked.future.cancel()

    async def close(self) -> None:
        """Cancel whoever still waits."""
        if self._timer is not None:
            self._timer.cancel()
        for asked in self._gathered:
            asked.future.cancel()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _send(self) -> None:
        self._timer = None
        batch: list[_Asked] = []
        size = 0
        for asked in self._gathered:
            if batch and (len(batch) == _MAX_LINES or size + len(asked.body) > _MAX_BYTES):
                self._carry_off(batch)
                batch, size = [], 0
            batch.append(asked)
            size += len(asked.body)
        self._gathered = []
        self._carry_off(batch)

    def _carry_off(self, batch: list[_Asked]) -> None:
        task = asyncio.create_task(self._carry(batch))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, batch: list[_Asked]) -> None:
        """Send it, and what is left of it again, until each has its answer or is waited for no more."""
        failures = 0
        try:
            while left := [asked for asked in batch if not asked.future.done()]:
                reason = await self._attempt(left)
                is_fruitless = not any(asked.future.done() for asked in left)
                failures = failures + 1 if is_fruitless else 0
                if failures > len(self._pauses_s):
                    raise Unavailable(f"the gateway at {self._http.base_url} is out of reach: {reason}")
                if failures:
                    await asyncio.sleep(self._pauses_s[failures - 1])
        except KeckError as error:
            for asked in batch:
                if not asked.future.done():
                    asked.future.set_exception(error)
        finally:
            for asked in batch:
                asked.future.cancel()

    async def _attempt(self, asked: list[_Asked]) -> str:
        """One request; why it ended, which is of interest only if it brought nothing."""
        try:
            await self._exchange(asked)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        return "it closed the batch before the verdicts"

    async def _exchange(self, asked: list[_Asked]) -> None:
        async with self._http.stream(
            "POST",
            "/v1/batches",
            content=b"\n".join(one.body for one in asked),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_TIMEOUT_S, pool=None),
        ) as response:
            if not response.is_success:
                await response.aread()
                raise error_of(response)
            async for line in lines_of(response.aiter_bytes()):
                if line:
                    _settle(asked, line)
                if all(one.future.done() for one in asked):
                    return


def _settle(asked: Sequence[_Asked], text: str) -> None:
    """Give one answer to whoever waits for it."""
    try:
        line = _line.decode(text)
        verdict = _verdict.decode(text) if line.type == "eval.done" else None
    except DECODING_ERRORS as error:
        raise Unavailable(f"the gateway answered what is no answer to a batch: {error}") from error
    if not 1 <= line.line <= len(asked):
        raise Unavailable(f"the gateway answered line {line.line} of a batch of {len(asked)}")
    future = asked[line.line - 1].future
    if future.done():
        return
    if verdict is not None:
        future.set_result(verdict)
    else:
        future.set_exception(error_for(line.status, line.detail, retry_after_s=line.retry_after_s))
