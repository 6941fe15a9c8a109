"""The loop every worker runs: pull, decode, handle, then acknowledge, retry or bury.

A handler returns once the *next* event is stored; only then is the message acknowledged. A message is never
lost: the worst that happens to it is a verdict that says whose fault it was. Whatever a handler does ends when its
check is cancelled or its deadline comes, in every stage alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import nats.errors
import structlog
from nats.aio.msg import Msg

from keck import subjects
from keck.attempts import attempt_of, hand_back, is_used_up
from keck.bus import Bus
from keck.dead_letters import Letter, bury, names_in, verdict_on_unreadable
from keck.endings import cancelled, overdue
from keck.errors import BadRequest, KeckError, Misaddressed, NotPermitted, Reject, Retry
from keck.logs import logger
from keck.messages import CheckCancel, CheckRequested, CompileDone, EvalDone, decode
from keck.pull import PullLoop
from keck.streams import MAX_ATTEMPTS
from keck.subjects import CheckKey

__all__ = ["Consumer"]

BEAT_S: Final = 10.0
"""How often the server hears that a message is still in hand; a third of ack_wait."""
_UNSETTLED_DELAY_S: Final = 5.0
_FIRST_DELAY_S: Final = 2.0
"""Before the second attempt after an unforeseen exception; doubled for the third."""
_PASSED_OVER: Final = 8
"""Messages of other consumers after which one that comes later in the order has its turn."""
_STAGES: Final = {subjects.CHECKS: "compile", subjects.BUILDS: "execute"}
_DOING: Final = {
    "compile": "it waited for its build or was being built",
    "execute": "it waited for an executor or was being judged",
}
_E = TypeVar("_E", CheckRequested, CompileDone)


@dataclass(slots=True)
class _Work:
    """A handler at work on one check."""

    task: asyncio.Future[None]
    cancelled_by: CheckCancel | None = None


class Consumer(Generic[_E]):
    """Handles the messages of several durable consumers of one stream, the first named first.

    `handle(event, attempt)` decides by how it ends:

    ====================  =========================================================================
    is cancelled          the check was, or its deadline came: the verdict says so, and is published
                          once the handler is over, so that it has ended whatever it started
    returns               acknowledged: whatever follows from the message is stored
    raises ``Retry``      delivered again after its delay; at the last attempt `on_exhausted`
    raises ``Reject``     dead letter, `on_exhausted`, never delivered again
    raises anything else  logged, then as ``Retry`` with a growing delay
    ====================  =========================================================================

    `on_exhausted(event, reason, failure_kind, attempts)` publishes the infrastructure verdict of a message
    that is given up.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str,
        consumers: Sequence[str],
        expect: type[_E],
        slots: int,
        handle: Callable[[_E, int], Awaitable[None]],
        on_exhausted: Callable[[_E, str, str, int], Awaitable[None]],
        beat_s: float = BEAT_S,
    ) -> None:
        self.slots = slots
        self._bus = bus
        self._stream = stream
        self._stage = _STAGES.get(stream, stream.lower())
        self._expect: type[_E] = expect
        self._handle: Callable[[_E, int], Awaitable[None]] = handle
        self._on_exhausted: Callable[[_E, str, str, int], Awaitable[None]] = on_exhausted
        self._beat_s = beat_s
        self._wake = asyncio.Event()
        self._draining = False
        self._held_off = False
        self._drained = asyncio.Event()
        self._in_hand: dict[asyncio.Task[None], Msg] = {}
        self._working: dict[CheckKey, _Work] = {}
        self._loops: list[PullLoop] = [
            PullLoop(bus, stream=stream, consumer=name, on_arrival=self._wake.set) for name in consumers
        ]
        self._passed_over: dict[PullLoop, int] = dict.fromkeys(self._loops, 0)

    @property
    def busy(self) -> int:
        """Messages being handled now."""
        return len(self._in_hand)

    def hold_off(self, held_off: bool) -> None:
        """While held off, nothing new is begun: what waits is handed back, and what is in hand goes on."""
        self._held_off = held_off
        self._wake.set()

    async def run(self) -> None:
        """Handle messages until `drain`, or until cancelled, which hands everything back at once.

        Raises:
            ConsumerGone: a durable consumer was deleted.
        """
        beat = asyncio.create_task(self._beat(), name="consumer-beat")
        try:
            async with self._hearing_cancels():
                for loop in self._loops:
                    await loop.start()
                while not self._draining:
                    self._wake.clear()
                    if self._held_off:
                        await self._hand_back_waiting()
                    else:
                        await self._fill_slots()
                    await self._wake.wait()
                await self._drained.wait()
        finally:
            if not self._draining:
                await self.drain(0)
            await self._stop_pulling()
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def drain(self, grace_s: float) -> None:
        """Stop pulling, hand back what has not started, let the rest finish for `grace_s`, then hand it back."""
        self._draining = True
        self._wake.set()
        try:
            await self._stop_pulling()
            if self._in_hand and grace_s > 0:
                await asyncio.wait(list(self._in_hand), timeout=grace_s)
            unfinished = dict(self._in_hand)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            for task, message in unfinished.items():
                if task.cancelled():
                    await hand_back(self._bus, message)
            if self._bus.nc.is_connected:
                await self._bus.barrier()
        finally:
            self._drained.set()

    async def _stop_pulling(self) -> None:
        for loop in self._loops:
            for message in await loop.stop():
                await hand_back(self._bus, message)

    async def _fill_slots(self) -> None:
        while len(self._in_hand) < self.slots and not self._draining:
            message = await self._next()
            if message is None:
                break
            if self._draining:  # it came while the drain began
                await hand_back(self._bus, message)
                break
            self._start(message)
        # One at a time from each lane: a worker that is full holds no more than one message a lane, which
        # another worker could have had, and a pull costs a millisecond where a job takes seconds.
        level = 1 if len(self._in_hand) < self.slots else 0
        for loop in self._loops:
            await loop.want(level)

    async def _hand_back_waiting(self) -> None:
        """Ask for nothing more; a request that is out may still bring a message, which comes here as well."""
        for loop in self._loops:
            await loop.want(0)
            while (message := loop.take()) is not None:
                await hand_back(self._bus, message)

    async def _next(self) -> Msg | None:
        """The next message by priority: a consumer's turn comes when all before it are known to be empty.

        Or when `_PASSED_OVER` messages of others were taken since its last turn: what goes first must not mean that
        the rest never comes.
        """
        loops = sorted(self._loops, key=lambda loop: self._passed_over[loop] < _PASSED_OVER)
        for loop in loops:
            if loop is not loops[-1]:
                await loop.poll()
            message = loop.take()
            self._passed_over[loop] = 0
            if message is not None:
                for other in self._loops:
                    self._passed_over[other] += other is not loop
                return message
        return None

    def _start(self, message: Msg) -> None:
        task = asyncio.create_task(self._process(message), name="consumer-message")
        self._in_hand[task] = message
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger().error("message_handling_failed", exc_info=error)

    async def _process(self, message: Msg) -> None:
        try:
            try:
                event = self._read(message)
            except BadRequest as error:
                await self._discard_unreadable(message, error)
                return
            await self._attempt(message, event)
        except Exception as error:  # noqa: BLE001 - the loop's boundary
            # A verdict or a dead letter could not be stored: come back to it later.
            logger().exception("message_not_settled", subject=message.subject, error=type(error).__name__)
            await self._settle(message.nak(_jittered(_UNSETTLED_DELAY_S)))

    def _read(self, message: Msg) -> _E:
        event = decode(message.data, self._expect)
        run, check_id = names_in(message.subject)
        if (event.run, event.check_id) != (run, check_id):
            raise Misaddressed(
                f"the event is of {event.run}.{event.check_id}, its subject of {run}.{check_id}"
            )
        return event

    async def _attempt(self, message: Msg, event: _E) -> None:
        attempt = await attempt_of(self._bus, message)
        with structlog.contextvars.bound_contextvars(
            check_id=event.check_id, run=event.run, attempt=attempt, stage=self._stage
        ):
            if await self._bus.is_decided(CheckKey.of(event)):
                # Cancelled, or an earlier delivery got that far and its acknowledgement was lost.
                await self._settle(message.ack())
                return
            if is_used_up(message, attempt):
                # Whoever had it last did not live to say why.
                await self._give_up(event, "the workers that had it were lost", "worker_lost", attempt - 1)
                await self._settle(message.ack())
                return
            try:
                ending = await self._handled(event, attempt)
            except Reject as error:
                logger().error("message_rejected", reason=str(error))
                await bury(self._bus, Letter.of(message), stage=self._stage, reason=str(error))
                await self._give_up(event, str(error), "rejected", attempt)
                await self._settle(message.term())
            except Retry as error:
                logger().warning("message_retried", reason=str(error), failure_kind=error.failure_kind)
                await self._again(message, event, attempt, error)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises costs one attempt
                logger().exception("handler_failed", error=type(error).__name__)
                await self._again(message, event, attempt, _as_retry(error, attempt))
            else:
                if ending is not None:
                    logger().info("check_ended_early", verdict=str(ending.verdict))
                    await self._bus.publish_terminal(ending)
                await self._settle(message.ack())

    async def _handled(self, event: _E, attempt: int) -> EvalDone | None:
        """Let the handler work; the verdict that ended it early, if one did. On return nothing of it is left."""
        left_s = event.deadline - time.time()
        if left_s <= 0:
            return overdue(event, _DOING[self._stage])
        key = CheckKey.of(event)
        work = _Work(asyncio.ensure_future(self._handle(event, attempt)))
        self._working[key] = work
        try:
            await asyncio.wait({work.task}, timeout=left_s)
            if work.cancelled_by is not None:
                return cancelled(event, work.cancelled_by.reason)
            if not work.task.done():
                return overdue(event, _DOING[self._stage])
            await work.task
            return None
        finally:
            if self._working.get(key) is work:  # else it was delivered here once more meanwhile
                del self._working[key]
            work.task.cancel()
            await asyncio.gather(work.task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _hearing_cancels(self) -> AsyncIterator[None]:
        try:
            subscription = await self._bus.subscribe(subjects.CANCELS, self._cancelled)
        except NotPermitted as error:
            logger().warning("cancels_not_heard", error=str(error))
            yield
            return
        try:
            yield
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _cancelled(self, message: Msg) -> None:
        try:
            cancel = decode(message.data, CheckCancel)
        except BadRequest as error:
            logger().warning("cancel_unreadable", subject=message.subject, error=str(error))
            return
        work = self._working.get(CheckKey.of(cancel))
        if work is not None and not work.task.done():
            work.cancelled_by = cancel
            work.task.cancel()

    async def _again(self, message: Msg, event: _E, attempt: int, why: Retry) -> None:
        if attempt < MAX_ATTEMPTS:
            await self._settle(message.nak(_jittered(why.delay_s)))
            return
        await self._give_up(event, str(why), why.failure_kind, attempt)
        await self._settle(message.ack())

    async def _give_up(self, event: _E, reason: str, failure_kind: str, attempts: int) -> None:
        logger().error("message_given_up", reason=reason, failure_kind=failure_kind, attempts=attempts)
        await self._on_exhausted(event, reason, failure_kind, attempts)

    async def _discard_unreadable(self, message: Msg, error: BadRequest) -> None:
        logger().error("message_unreadable", subject=message.subject, reason=str(error))
        letter = Letter.of(message)
        await bury(self._bus, letter, stage=self._stage, reason=str(error))
        # Whose check a misaddressed event is, is the very thing in doubt.
        verdict = None if isinstance(error, Misaddressed) else verdict_on_unreadable(letter, str(error))
        if verdict is not None:
            await self._bus.publish_terminal(verdict)
        await self._settle(message.term())

    async def _beat(self) -> None:
        """Tell the server that what is here is still here, held messages included."""
        while True:
            await asyncio.sleep(self._beat_s)
            for message in self._everything_here():
                await self._settle(message.in_progress())

    def _everything_here(self) -> list[Msg]:
        return [*self._in_hand.values(), *(message for loop in self._loops for message in loop.held())]

    @staticmethod
    async def _settle(sending: Awaitable[Any]) -> None:
        """Send an acknowledgement; if it cannot be sent the server delivers again, which is safe."""
        try:
            await sending
        except (nats.errors.Error, TimeoutError) as error:
            # Not its text: nats-py puts the whole message into it, sources included.
            logger().warning("acknowledgement_lost", error=type(error).__name__)


def _as_retry(error: Exception, attempt: int) -> Retry:
    # Only our own exceptions are written for people; others may hold anything.
    reason = str(error) if isinstance(error, KeckError) else f"internal error ({type(error).__name__})"
    return Retry(
        reason, delay_s=min(60.0, _FIRST_DELAY_S * 2 ** (attempt - 1)), failure_kind="internal_error"
    )


def _jittered(delay_s: float) -> float:
    # So that what failed together does not come back together.
    return delay_s * random.uniform(1.0, 1.25)
