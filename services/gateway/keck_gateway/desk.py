"""The gateway's one way in, whichever protocol a caller speaks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keck.bus import Bus
from keck.endings import cancelled
from keck.errors import DeadlineExceeded
from keck.fleet import Fleet
from keck.kinds import kind_named
from keck.messages import CheckRequested, EvalDone, Lane, new_request
from keck.settings import Settings
from keck.subjects import CheckKey
from keck_gateway.admission import Admission
from keck_gateway.bodies import CheckBody, CheckState, require_name
from keck_gateway.closing import Closing
from keck_gateway.lookup import COMPILER, Lookup
from keck_gateway.overdue import Overdue
from keck_gateway.progress_feed import ProgressFeed
from keck_gateway.replay import Replays
from keck_gateway.run_stream import RunStreams
from keck_gateway.waiters import Waiters

__all__ = ["Desk"]

_DEADLINE_GRACE_S = 1.0
"""Workers answer a check that is past its deadline themselves; give that verdict a moment to arrive."""


class Desk:
    """Takes checks, waits for verdicts, says where checks are."""

    def __init__(self, *, bus: Bus, fleet: Fleet, settings: Settings) -> None:
        self.bus = bus
        self.fleet = fleet
        self.settings = settings
        self.feed = ProgressFeed(bus)
        self.watched = RunStreams(bus)
        self.lookup = Lookup(bus, is_served=self._is_served)
        self.admission = Admission(bus, lookup=self.lookup, fleet=fleet)
        self.replays = Replays(bus)
        self.closing = Closing(bus, self.lookup)
        self.overdue = Overdue(bus, self.closing)
        self.waiters = Waiters(bus, limit=settings.max_waiting, on_verdict=self.overdue.decided)

    def _is_served(self, what: str) -> bool:
        """Whether somebody alive does this work: compiles, or executes for this target."""
        if what == COMPILER:
            return any(worker.state == "ready" for worker in self.fleet.live("compiler"))
        return self.fleet.has_target(what)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen to the bus while this lasts."""
        async with self.waiters.listening(), self.feed.listening():
            yield

    def request_of(self, body: CheckBody, *, lane: Lane) -> CheckRequested:
        """The event for a body; `lane` is for one that names none.

        Raises:
            BadRequest: unknown kind, or an id or a source that cannot be taken.
        """
        return new_request(
            body.candidate,
            body.reference,
            check_id=require_name(body.check_id, what="check_id") if body.check_id is not None else "",
            run=require_name(body.run, what="run"),
            kind=kind_named(body.kind).name,
            lane=body.lane or lane,
            options=body.options,
            deadline_s=body.deadline_s if body.deadline_s is not None else self.settings.deadline_s,
        )

    async def submit(self, request: CheckRequested, *, id_is_callers: bool) -> CheckKey:
        """Store a check for whoever may judge it, now or later."""
        await self.admission.admit(request, id_is_callers=id_is_callers)
        return CheckKey.of(request)

    async def judge(
        self,
        request: CheckRequested,
        *,
        id_is_callers: bool,
        wait_s: float | None = None,
        needs_executor: bool = True,
    ) -> EvalDone | None:
        """Store a check and wait for its verdict; None if `wait_s` is over first.

        With `needs_executor` false it is queued also while nobody alive could judge it.

        Raises:
            DeadlineExceeded: without `wait_s`: the check's own deadline is over.
            Unavailable: nobody alive could judge it.
        """
        key = CheckKey.of(request)
        if id_is_callers and (event := await self._decided(request)):
            return event
        if needs_executor:
            self.admission.require_executor(request)
        left_s = max(0.0, request.deadline - time.time()) + _DEADLINE_GRACE_S
        with self.waiters.place(key) as future:
            await self.admission.admit(request, id_is_callers=id_is_callers)
            event = await self.waiters.wait(
                key, future, timeout_s=left_s if wait_s is None else min(wait_s, left_s)
            )
        if event is None and wait_s is None:
            raise DeadlineExceeded(
                f"no verdict of {key.check_id} before its deadline: the queue is long or the workers are gone "
                "(GET /v1/executors)"
            )
        return event

    async def find(self, key: CheckKey) -> EvalDone | CheckState:
        """The verdict of a check, or where it is."""
        return await self.lookup.find(key, self.feed.last(key))

    async def cancel(self, key: CheckKey, *, reason: str = "", tell_workers: bool = True) -> EvalDone:
        """End a check as cancelled, unless it has a verdict; the verdict that it has then.

        Raises:
            NotFound: no stream knows it.
        """
        return await self.closing.close(
            key, lambda event: cancelled(event, reason), tell_workers=tell_workers
        )

    async def _decided(self, request: CheckRequested) -> EvalDone | None:
        """The verdict this very check has already: told also when nobody is alive to judge."""
        event = await self.waiters.stored(CheckKey.of(request))
        if event is not None:
            await self.admission.is_known(request)  # raises if the verdict is another check's
        return event
