"""The async client: the same calls and types over NATS and over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import msgspec

from keck._transport import transport_for
from keck.batches import AT_ONCE, Check, Checked, Checks, as_they_come, in_order
from keck.errors import BadRequest, DeadlineExceeded, KeckError
from keck.kinds import kind_named
from keck.kinds.lint import LINT
from keck.load import Load
from keck.messages import (
    CheckProgress,
    CheckRequested,
    EvalDone,
    Heartbeat,
    Lane,
    Options,
    Replay,
    ReplayProgress,
    new_request,
)
from keck.patience import PATIENCE_S, patiently
from keck.settings import Settings, load
from keck.subjects import CheckKey

__all__ = ["DEFAULT_URL", "CheckArguments", "Client", "LintArguments", "lint_arguments", "options_from"]

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where ``keck up`` listens if told nothing else."""
_DEADLINE_GRACE_S = 30.0
"""Whoever holds a check that is past its deadline says so; where nobody does, this is how long it is waited for."""


class CheckArguments(TypedDict, total=False):
    """What may be said of a check beside its two sources."""

    check_id: str
    run: str
    kind: str
    lane: Lane
    options: Options | Mapping[str, Any] | None
    deadline_s: float


class LintArguments(TypedDict, total=False):
    """What may be said of a lint beside the reference."""

    check_id: str
    run: str
    lane: Lane
    options: Options | Mapping[str, Any] | None
    deadline_s: float


class Client:
    """Submits checks and waits for verdicts; use it as an async context manager.

    Args:
        url: ``nats://…`` or ``http://…``; None: ``KECK_URL``, then ``KECK_NATS_URL``, then `DEFAULT_URL`.
        token: bearer token for a gateway; None: ``KECK_TOKEN``.
        settings: None: read from the environment.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, settings: Settings | None = None
    ) -> None:
        known = load() if settings is None else settings
        self.url = url or known.url or known.nats_url or DEFAULT_URL
        self._transport = transport_for(self.url, known, token=token)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def submit(
        self,
        candidate: str,
        reference: str,
        *,
        check_id: str = "",
        run: str = "default",
        kind: str = "kernel",
        lane: Lane = "bulk",
        options: Options | Mapping[str, Any] | None = None,
        deadline_s: float = 3600.0,
    ) -> CheckKey:
        """Queue a check; returns its key once it is stored.

        Raises:
            BadRequest: it could never work.
            QueueFull: nothing was stored; try again later.
            Unavailable: Keck cannot be reached.
        """
        return await self._transport.submit(
            _request(
                candidate,
                reference,
                check_id=check_id,
                run=run,
                kind=kind,
                lane=lane,
                options=options,
                deadline_s=deadline_s,
            )
        )

    async def check(
        self,
        candidate: str,
        reference: str,
        *,
        check_id: str = "",
        run: str = "default",
        kind: str = "kernel",
        lane: Lane = "interactive",
        options: Options | Mapping[str, Any] | None = None,
        deadline_s: float = 3600.0,
        timeout_s: float | None = None,
    ) -> EvalDone:
        """Queue a check and wait for its verdict; a candidate's failure is a verdict, not an exception.

        In the lane ``bulk`` it waits on a connection that it shares with others, and is queued also while nobody alive
        could judge it, over HTTP as over NATS.

        Raises:
            DeadlineExceeded: `timeout_s` went by; the check goes on.
        """
        request = _request(
            candidate,
            reference,
            check_id=check_id,
            run=run,
            kind=kind,
            lane=lane,
            options=options,
            deadline_s=deadline_s,
        )
        return await _within(timeout_s, request.check_id, self._transport.submit_and_wait(request))

    async def check_many(
        self,
        checks: Checks,
        *,
        at_once: int = AT_ONCE,
        ordered: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> AsyncGenerator[Checked, None]:
        """Judge any number of checks and yield what becomes of each, as they are decided.

        One that cannot be judged comes back with its error and leaves the others alone. A full queue is waited for, a
        lost connection made again. Leave early through :func:`contextlib.aclosing`, which cancels what is on its way
        here; what was submitted is judged all the same.

        Args:
            checks: taken one by one, as there is room; an iterable or an async iterable.
            at_once: how many are on their way at a time.
            ordered: yield them in the order in which they were given.
            patience_s: seconds that Keck may be out of reach before a check comes back as `Unavailable`.
        """
        if at_once < 1:
            raise BadRequest(f"at_once={at_once}: must be 1 or more")

        async def judge(index: int, check: Check) -> Checked:
            try:
                return Checked(index=index, check=check, verdict=await self._judged(check, patience_s))
            except KeckError as error:
                return Checked(index=index, check=check, error=error)

        window = in_order if ordered else as_they_come
        async with aclosing(window(checks, judge, at_once=at_once)) as decided:
            async for checked in decided:
                yield checked

    async def check_patiently(self, check: Check, *, patience_s: float = PATIENCE_S) -> EvalDone:
        """One check as :meth:`check_many` does each: for callers that are many by themselves.

        Raises:
            BadRequest: it could never work.
            DeadlineExceeded: nobody decided it before its deadline.
            QueueFull, Unavailable: still, when the deadline or `patience_s` was over.
        """
        return await self._judged(check, patience_s)

    async def lint(
        self,
        reference: str,
        *,
        timeout_s: float | None = None,
        **given: Unpack[LintArguments],
    ) -> EvalDone:
        """Ask what a reference is worth as a task; the verdict's `lint` says it.

        The reference is checked against itself in another process, untimed. A verdict other than ``passed`` says why
        it cannot be judged against; then `lint` may be None.

        Raises:
            BadRequest: it could never work.
            DeadlineExceeded: `timeout_s` went by; the check goes on.
        """
        return await self.check(
            reference,
            reference,
            timeout_s=timeout_s,
            **lint_arguments(given),
        )

    async def follow(
        self, candidate: str, reference: str, **given: Unpack[CheckArguments]
    ) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Queue a check and yield its progress from the first stage on; the verdict comes last.

        Takes what :meth:`submit` takes; the lane is ``interactive`` unless given.
        """
        request = _request(candidate, reference, **given)
        async with aclosing(self._transport.follow(request)) as events:
            async for event in events:
                yield event

    async def _judged(self, check: Check, patience_s: float) -> EvalDone:
        request = _request(**msgspec.structs.asdict(check))
        verdict = patiently(
            lambda: self._transport.submit_and_wait(request), until=request.deadline, patience_s=patience_s
        )
        left_s = request.deadline - time.time() + _DEADLINE_GRACE_S
        return await _within(left_s, request.check_id, verdict)

    async def result(self, key: CheckKey, *, timeout_s: float | None = None) -> EvalDone:
        """The verdict of a check, which may be there already.

        Raises:
            DeadlineExceeded: `timeout_s` went by; the check goes on.
        """
        return await _within(timeout_s, key.check_id, self._transport.result(key))

    async def events(self, key: CheckKey) -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """Progress of a check from now on; the verdict comes last, also when it is there already."""
        async with aclosing(self._transport.events(key)) as events:
            async for event in events:
                yield event

    async def cancel(self, key: CheckKey, *, reason: str = "") -> EvalDone:
        """End a check wherever it is; the verdict that it has then, which may be one it had already.

        Raises:
            NotFound: no such check is known.
            Unavailable: Keck cannot be reached.
        """
        return await self._transport.cancel(key, reason)

    async def replay(self, order: Replay) -> AsyncGenerator[ReplayProgress, None]:
        """Do stored checks again as a new generation, and yield how far that is; the last says how it ended.

        Raises:
            BadRequest: it could never work.
            QueueFull: as many replays run as may.
            Unavailable: no gateway answers, or it went away: what was made stays, and giving the same order
                again with `to_generation` goes on.
        """
        async with aclosing(self._transport.replay(order)) as told:
            async for progress in told:
                yield progress

    async def executors(self) -> list[Heartbeat]:
        """Executors that are alive."""
        return await self._transport.executors()

    async def load(self) -> Load:
        """All live workers, and what waits for them."""
        return await self._transport.load()

    async def watch(self, run: str = "default") -> AsyncGenerator[CheckProgress | EvalDone, None]:
        """What happens to the checks of a run from now on, without an end; what is missed is not told again."""
        async with aclosing(self._transport.watch(run)) as events:
            async for event in events:
                yield event


def options_from(given: Options | Mapping[str, Any] | None) -> Options:
    """Options from a struct or a mapping.

    Raises:
        BadRequest: a name or a value is not one that exists.
    """
    if given is None or isinstance(given, Options):
        return given or Options()
    unknown = sorted(set(given) - set(Options.__struct_fields__))
    if unknown:
        known = ", ".join(Options.__struct_fields__)
        raise BadRequest(f"unknown option {', '.join(unknown)}; known are {known}")
    try:
        return msgspec.convert(dict(given), Options)
    except msgspec.ValidationError as error:
        raise BadRequest(f"options: {error}") from error


def lint_arguments(given: LintArguments) -> CheckArguments:
    """A lint as the check that it is: interactive unless said otherwise, and never timed.

    Raises:
        BadRequest: an option's name or value is not one that exists.
    """
    options = msgspec.structs.replace(options_from(given.get("options")), timed_calls=0, profile=False)
    return CheckArguments(**{"lane": "interactive", **given, "kind": LINT.name, "options": options})


def _request(
    candidate: str,
    reference: str,
    *,
    check_id: str = "",
    run: str = "default",
    kind: str = "kernel",
    lane: Lane = "interactive",
    options: Options | Mapping[str, Any] | None = None,
    deadline_s: float = 3600.0,
) -> CheckRequested:
    kind_named(kind)
    return new_request(
        candidate,
        reference,
        check_id=check_id,
        run=run,
        kind=kind,
        lane=lane,
        options=options_from(options),
        deadline_s=deadline_s,
    )


async def _within(timeout_s: float | None, check_id: str, verdict: Awaitable[EvalDone]) -> EvalDone:
    """Await a verdict; the end of the caller's patience is one of our errors."""
    timer = asyncio.timeout(timeout_s)
    try:
        async with timer:
            done = await verdict
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DeadlineExceeded(f"no verdict of {check_id} within {timeout_s} s; the check goes on") from error
    return done
