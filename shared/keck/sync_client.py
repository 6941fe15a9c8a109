"""The client for code that is not async: a thread with an event loop, so it works in notebooks too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from keck.client import CheckArguments, Client, LintArguments
from keck.errors import Unavailable
from keck.messages import EvalDone, Heartbeat, Replay, ReplayProgress
from keck.settings import Settings
from keck.subjects import CheckKey

__all__ = ["SyncClient"]

_T = TypeVar("_T")


class SyncClient:
    """:class:`keck.Client` with blocking calls; safe to call from several threads at once.

    Connects when it is made. Close it, or use it as a context manager.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, settings: Settings | None = None
    ) -> None:
        self._client = Client(url, token=token, settings=settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keck-client", daemon=True)
        self._thread.start()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; what was submitted goes on. Closing twice is fine."""
        if self._loop.is_closed():
            return
        try:
            self._wait(self._client.__aexit__(None, None, None))
        finally:
            self._end_loop()

    def submit(self, candidate: str, reference: str, **given: Unpack[CheckArguments]) -> CheckKey:
        """Queue a check; see :meth:`keck.Client.submit`."""
        return self._wait(self._client.submit(candidate, reference, **given))

    def check(
        self,
        candidate: str,
        reference: str,
        *,
        timeout_s: float | None = None,
        **given: Unpack[CheckArguments],
    ) -> EvalDone:
        """Queue a check and wait for its verdict; see :meth:`keck.Client.check`."""
        return self._wait(self._client.check(candidate, reference, timeout_s=timeout_s, **given))

    def lint(
        self, reference: str, *, timeout_s: float | None = None, **given: Unpack[LintArguments]
    ) -> EvalDone:
        """Ask what a reference is worth as a task; see :meth:`keck.Client.lint`."""
        return self._wait(self._client.lint(reference, timeout_s=timeout_s, **given))

    def result(self, key: CheckKey, *, timeout_s: float | None = None) -> EvalDone:
        """The verdict of a check; see :meth:`keck.Client.result`."""
        return self._wait(self._client.result(key, timeout_s=timeout_s))

    def cancel(self, key: CheckKey, *, reason: str = "") -> EvalDone:
        """End a check wherever it is; see :meth:`keck.Client.cancel`."""
        return self._wait(self._client.cancel(key, reason=reason))

    def replay(self, order: Replay) -> ReplayProgress:
        """Do stored checks again, to the end; see :meth:`keck.Client.replay`."""

        async def to_the_end() -> ReplayProgress:
            told = [progress async for progress in self._client.replay(order)]
            if not told:
                raise Unavailable("the replay ended without a word")
            return told[-1]

        return self._wait(to_the_end())

    def executors(self) -> list[Heartbeat]:
        """Executors that are alive."""
        return self._wait(self._client.executors())

    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
