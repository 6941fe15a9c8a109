"""The client for code that is not async: a thread with an event loop, so it works in notebooks too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from keck.batches import AT_ONCE, Check, Checked, Checks
from keck.client import CheckArguments, Client, LintArguments
from keck.errors import Unavailable
from keck.load import Load
from keck.messages import CheckProgress, EvalDone, Heartbeat, Replay, ReplayProgress
from keck.patience import PATIENCE_S
from keck.settings import Settings
from keck.subjects import CheckKey

__all__ = ["SyncClient"]

_T = TypeVar("_T")
_END: Final = object()


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

    def check_many(
        self,
        checks: Checks,
        *,
        at_once: int = AT_ONCE,
        ordered: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> Iterator[Checked]:
        """Judge any number of checks; see :meth:`keck.Client.check_many`.

        `checks` is read on the client's own thread. Nothing goes on between two steps of the iteration but what is on
        its way already.
        """
        return self._iterate(
            self._client.check_many(checks, at_once=at_once, ordered=ordered, patience_s=patience_s)
        )

    def check_patiently(self, check: Check, *, patience_s: float = PATIENCE_S) -> EvalDone:
        """One check as :meth:`check_many` does each; see :meth:`keck.Client.check_patiently`."""
        return self._wait(self._client.check_patiently(check, patience_s=patience_s))

    def run(self, call: Callable[[Client], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Begin a call of the async client on this client's thread; the future may be awaited from any event loop.

        Args:
            call: given the async client, makes the coroutine.
        """
        return asyncio.run_coroutine_threadsafe(call(self._client), self._loop)

    def follow(
        self, candidate: str, reference: str, **given: Unpack[CheckArguments]
    ) -> Iterator[CheckProgress | EvalDone]:
        """Queue a check and yield its progress, the verdict last; see :meth:`keck.Client.follow`."""
        return self._iterate(self._client.follow(candidate, reference, **given))

    def events(self, key: CheckKey) -> Iterator[CheckProgress | EvalDone]:
        """Progress of a check from now on, the verdict last; see :meth:`keck.Client.events`."""
        return self._iterate(self._client.events(key))

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

    def load(self) -> Load:
        """All live workers, and what waits for them."""
        return self._wait(self._client.load())

    def watch(self, run: str = "default") -> Iterator[CheckProgress | EvalDone]:
        """What happens to the checks of a run from now on; see :meth:`keck.Client.watch`."""
        return self._iterate(self._client.watch(run))

    def _iterate(self, events: AsyncGenerator[_T, None]) -> Iterator[_T]:
        """The same, one blocking step at a time; leaving the iteration ends it there too."""
        try:
            while True:
                event = self._wait(_step(events))
                if event is _END:
                    return
                yield event  # type: ignore[misc]  # not the end, so a _T
        finally:
            if not self._loop.is_closed():
                self._wait(events.aclose())

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


async def _step(events: AsyncGenerator[_T, None]) -> _T | object:
    return await anext(events, _END)
