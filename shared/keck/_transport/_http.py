"""HTTP: the gateway's ``/v1`` routes, with its problem details as our errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from keck._transport._batches import Batches
from keck._transport._lines import lines_of
from keck._transport._problems import error_of
from keck._transport._sse import server_sent_events
from keck.errors import Unavailable
from keck.load import Load
from keck.messages import (
    CheckProgress,
    CheckRequested,
    EvalDone,
    Heartbeat,
    Options,
    Replay,
    ReplayProgress,
)
from keck.subjects import CheckKey

__all__ = ["HttpTransport"]

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Between attempts at a gateway that does not answer; every call here may be made twice."""
_CONNECT_TIMEOUT_S: Final = 5.0
_ANSWER_TIMEOUT_S: Final = 30.0
_WAIT_S: Final = 60
_SILENCE_S: Final = 60.0
"""An event stream this long without a byte is dead: the gateway sends a comment every few seconds."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_DEFAULTS: Final[dict[str, Any]] = msgspec.to_builtins(Options())
_verdict = msgspec.json.Decoder(EvalDone)
_progress = msgspec.json.Decoder(CheckProgress)
_told = msgspec.json.Decoder(ReplayProgress)
_load = msgspec.json.Decoder(Load)
_heartbeats = msgspec.json.Decoder(list[Heartbeat])


class HttpTransport:
    """Speaks to one gateway."""

    def __init__(self, url: str, *, token: str, tls: ssl.SSLContext | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers=headers,
            verify=True if tls is None else tls,
            timeout=httpx.Timeout(_ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, pool=None),
            # One connection per waiting check: the gateway's own limit answers 429, ours would only queue.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            # A proxy in the environment leads outside, never to this machine.
            trust_env=urlsplit(self._url).hostname not in _LOOPBACK,
        )
        self._batches = Batches(self._http, pauses_s=_PAUSES_S)

    async def open(self) -> None:
        """Nothing to do: connections are made as they are needed."""

    async def close(self) -> None:
        """Close the connections; whoever still waits is cancelled."""
        await self._batches.close()
        await self._http.aclose()

    async def submit(self, request: CheckRequested) -> CheckKey:
        """``POST /v1/checks``."""
        await self._ask("POST", "/v1/checks", json=_body(request))
        return CheckKey.of(request)

    async def submit_and_wait(self, request: CheckRequested) -> EvalDone:
        """``POST /v1/checks?wait=…``, then its events if that was too short; in bulk on a connection that many share."""
        if request.lane == "bulk":
            return await self._batches.judge(msgspec.json.encode(_body(request)))
        wait = {"wait": _WAIT_S}
        timeout = httpx.Timeout(_WAIT_S + _ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, pool=None)
        response = await self._ask("POST", "/v1/checks", json=_body(request), params=wait, timeout=timeout)
        if (verdict := _verdict_in(response)) is not None:
            return verdict
        return await self._until_verdict(CheckKey.of(request))

    async def result(self, key: CheckKey) -> EvalDone:
        """``GET /v1/checks/{id}``, and its events if it is not decided yet."""
        response = await self._ask("GET", f"/v1/checks/{key.check_id}", params=_query(key))
        if (verdict := _verdict_in(response)) is not None:
            return verdict
        return await self._until_verdict(key)

    async def events(self, key: CheckKey) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """``GET /v1/checks/{id}/events``, taken up again where the connection breaks."""
        async with aclosing(self._streamed(f"/v1/checks/{key.check_id}/events", _query(key))) as events:
            async for event in events:
                yield event
                if isinstance(event, EvalDone):
                    return

    async def watch(self, run: str) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """``GET /v1/runs/{run}/events``, taken up again where the connection breaks."""
        async with aclosing(self._streamed(f"/v1/runs/{run}/events", {})) as events:
            async for event in events:
                yield event

    async def load(self) -> Load:
        """``GET /v1/load``."""
        return _load.decode((await self._ask("GET", "/v1/load")).content)

    async def follow(self, request: CheckRequested) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Queue it, then read its events."""
        key = await self.submit(request)
        async with aclosing(self.events(key)) as events:
            async for event in events:
                yield event

    async def cancel(self, key: CheckKey, reason: str) -> EvalDone:
        """``DELETE /v1/checks/{id}``."""
        params = {**_query(key), **({"reason": reason} if reason else {})}
        response = await self._ask("DELETE", f"/v1/checks/{key.check_id}", params=params)
        return _verdict.decode(response.content)

    async def replay(self, order: Replay) -> AsyncGenerator[ReplayProgress, None]:
        """``POST /v1/replays``, once: the progress says where to go on after a break."""
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_TIMEOUT_S, pool=None)
        body = msgspec.json.encode(order)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.stream(
                "POST", "/v1/replays", content=body, headers=headers, timeout=timeout
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(response)
                async for line in response.aiter_lines():
                    yield _told.decode(line)
        except httpx.TransportError as error:
            raise Unavailable(_unreachable(self._url, error)) from error

    async def executors(self) -> list[Heartbeat]:
        """``GET /v1/executors``."""
        return _heartbeats.decode((await self._ask("GET", "/v1/executors")).content)

    async def _until_verdict(self, key: CheckKey) -> EvalDone:
        async with aclosing(self.events(key)) as events:
            async for event in events:
                if isinstance(event, EvalDone):
                    return event
        raise Unavailable(f"the gateway at {self._url} ended the events of {key.check_id} without a verdict")

    async def _streamed(
        self, path: str, query: Mapping[str, str | int]
    ) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """A stream of events without an end; a connection that breaks is made again, and given up after some pauses."""
        failures = 0
        while True:
            try:
                async with aclosing(self._stream(path, query)) as events:
                    async for event in events:
                        failures = 0
                        yield event
                reason = "it closed the event stream before the verdict"
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if failures == len(_PAUSES_S):
                raise Unavailable(f"the gateway at {self._url} is out of reach: {reason}")
            await asyncio.sleep(_PAUSES_S[failures])
            failures += 1

    async def _stream(
        self, path: str, query: Mapping[str, str | int]
    ) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_TIMEOUT_S, pool=None)
        async with self._http.stream("GET", path, params=dict(query), timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                raise error_of(response)
            async for name, data in server_sent_events(lines_of(response.aiter_bytes())):
                if name == "verdict":
                    yield _verdict.decode(data)
                elif name in ("queued", "progress"):
                    yield _progress.decode(data)

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request, again while nobody answers.

        Raises:
            KeckError: what the gateway refused, or Unavailable if it does not answer.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                response = await self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if pause_s is None:
                    raise Unavailable(_unreachable(self._url, error)) from error
                await asyncio.sleep(pause_s)
                continue
            if response.is_success:
                return response
            raise error_of(response)
        raise AssertionError  # the last attempt returns or raises


def _verdict_in(response: httpx.Response) -> EvalDone | None:
    """The verdict, if the answer is one and not where the check is."""
    known: dict[str, Any] = response.json()
    return _verdict.decode(response.content) if known.get("type") == "eval.done" else None


def _body(request: CheckRequested) -> dict[str, Any]:
    options = msgspec.to_builtins(request.options)
    return {
        "check_id": request.check_id,
        "run": request.run,
        "kind": request.kind,
        "lane": request.lane,
        "candidate": request.candidate,
        "reference": request.reference,
        # Only what was asked for: a gateway of an older version refuses options that it does not know.
        "options": {name: value for name, value in options.items() if value != _DEFAULTS[name]},
        "deadline_s": request.deadline - request.submitted_at,
    }


def _query(key: CheckKey) -> dict[str, str | int]:
    return {"run": key.run, "generation": key.generation}


def _unreachable(url: str, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"no gateway answers at {url}: {reason}. Is it running (`keck up` starts one), and is KECK_URL right?"
    )
