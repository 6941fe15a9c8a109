"""The loop every worker runs: pull, decode, handle, then acknowledge, retry or bury.

A handler returns once the *next* event is stored; only then is the message acknowledged. A message is never
lost: the worst that happens to it is a verdict that says whose fault it was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import nats.errors
import structlog
from nats.aio.msg import Msg

from keck import subjects
from keck.bus import Bus
from keck.errors import BadRequest, KeckError, Reject, Retry
from keck.logs import logger
from keck.messages import CheckRequested, CompileDone, EvalDone, decode
from keck.pull import PullLoop
from keck.streams import MAX_ATTEMPTS

__all__ = ["Consumer"]

BEAT_S: Final = 10.0
"""How often the server hears that a message is still in hand; a third of ack_wait."""
_STAGES: Final = {subjects.CHECKS: "compile", subjects.BUILDS: "execute"}
_E = TypeVar("_E", CheckRequested, CompileDone, EvalDone)


class Consumer(Generic[_E]):
    """Handles the messages of several durable consumers of one stream, the first named first.

    `handle(event, attempt)` decides by how it ends:

    ====================  =========================================================================
    returns               acknowledged: whatever follows from the message is stored
    raises ``Retry``      delivered again after its delay, until `MAX_ATTEMPTS` are used up
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
        self._drained = asyncio.Event()
        self._in_hand: dict[asyncio.Task[None], Msg] = {}
        self._loops: list[PullLoop] = [
            PullLoop(bus, stream=stream, consumer=name, on_arrival=self._wake.set) for name in consumers
        ]

    @property
    def busy(self) -> int:
        """Messages being handled now."""
        return len(self._in_hand)

    async def run(self) -> None:
        """Handle messages until `drain`, or until cancelled, which hands everything back at once.

        Raises:
            ConsumerGone: a durable consumer was deleted.
        """
        beat = asyncio.create_task(self._beat(), name="consumer-beat")
        try:
            for loop in self._loops:
                await loop.start()
            while not self._draining:
                self._wake.clear()
                await self._fill_slots()
                await self._wake.wait()
            await self._drained.wait()
        finally:
            if not self._draining:
                await self.drain(0)
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def drain(self, grace_s: float) -> None:
        """Stop pulling, hand back what has not started, let the rest finish for `grace_s`, then hand it back."""
        self._draining = True
        self._wake.set()
        try:
            for loop in self._loops:
                for message in await loop.stop():
                    await self._settle(message.nak())
            if self._in_hand and grace_s > 0:
                await asyncio.wait(list(self._in_hand), timeout=grace_s)
            unfinished = list(self._in_hand)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            if self._bus.nc.is_connected:
                await self._settle(self._bus.nc.flush(2))
        finally:
            self._drained.set()

    async def _fill_slots(self) -> None:
        while len(self._in_hand) < self.slots and not self._draining:
            message = next((taken for loop in self._loops if (taken := loop.take()) is not None), None)
            if message is None:
                break
            self._start(message)
        # One at a time from each lane: a worker that is full holds no more than one message a lane, which
        # another worker could have had, and a pull costs a millisecond where a job takes seconds.
        level = 1 if len(self._in_hand) < self.slots else 0
        for loop in self._loops:
            await loop.want(level)

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
        attempt = message.metadata.num_delivered
        try:
            event = self._read(message)
        except BadRequest as error:
            await self._bury_unreadable(message, str(error))
            return
        with structlog.contextvars.bound_contextvars(
            check_id=event.check_id, run=event.run, attempt=attempt, stage=self._stage
        ):
            try:
                await self._dispatch(message, event, attempt)
            except asyncio.CancelledError:
                await self._settle(message.nak())
                raise
            except Exception as error:  # noqa: BLE001 - the loop's boundary
                # The verdict or the dead letter could not be stored: come back to it later.
                logger().exception("message_not_settled", error=type(error).__name__)
                await self._settle(message.nak(_jittered(5.0)))

    async def _dispatch(self, message: Msg, event: _E, attempt: int) -> None:
        if attempt > MAX_ATTEMPTS:
            # Whoever had it last did not live to say why.
            await self._give_up(event, "the workers that had it were lost", "worker_lost", attempt - 1)
            await self._settle(message.ack())
            return
        try:
            await self._handle(event, attempt)
        except Reject as error:
            logger().error("message_rejected", reason=str(error))
            await self._dead_letter(message, event.run, event.check_id, str(error))
            await self._give_up(event, str(error), "rejected", attempt)
            await self._settle(message.term())
        except Retry as error:
            logger().warning("message_retried", reason=str(error), failure_kind=error.failure_kind)
            await self._again(message, event, attempt, str(error), error.failure_kind, delay_s=error.delay_s)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises costs one attempt
            logger().exception("handler_failed", error=type(error).__name__)
            reason = (
                str(error) if isinstance(error, KeckError) else f"internal error ({type(error).__name__})"
            )
            await self._again(
                message, event, attempt, reason, "internal_error", delay_s=min(60.0, 2.0**attempt)
            )
        else:
            await self._settle(message.ack())

    async def _again(
        self, message: Msg, event: _E, attempt: int, reason: str, failure_kind: str, *, delay_s: float
    ) -> None:
        if attempt < MAX_ATTEMPTS:
            await self._settle(message.nak(_jittered(delay_s)))
            return
        await self._give_up(event, reason, failure_kind, attempt)
        await self._settle(message.ack())

    async def _give_up(self, event: _E, reason: str, failure_kind: str, attempts: int) -> None:
        logger().error("message_given_up", reason=reason, failure_kind=failure_kind, attempts=attempts)
        await self._on_exhausted(event, reason, failure_kind, attempts)

    def _read(self, message: Msg) -> _E:
        event = decode(message.data, self._expect)
        run, check_id = _names_in(message.subject)
        if (event.run, event.check_id) != (run, check_id):
            raise BadRequest(f"the event says {event.run}.{event.check_id}, its subject {run}.{check_id}")
        return event

    async def _bury_unreadable(self, message: Msg, reason: str) -> None:
        run, check_id = _names_in(message.subject)
        logger().error("message_unreadable", subject=message.subject, reason=reason)
        try:
            await self._dead_letter(message, run, check_id, reason)
        except Exception as error:  # noqa: BLE001 - the loop's boundary
            logger().exception("message_not_settled", error=type(error).__name__)
            await self._settle(message.nak(_jittered(5.0)))
        else:
            await self._settle(message.term())

    async def _dead_letter(self, message: Msg, run: str, check_id: str, reason: str) -> None:
        meta = message.metadata
        headers = {
            subjects.MSG_ID: f"dead.{self._stream}.{meta.sequence.stream}.{meta.timestamp.timestamp()}",
            "Keck-Reason": " ".join(reason.split())[:1_000],
            "Keck-Subject": message.subject,
        }
        await self._bus.store(subjects.dead(self._stage, run, check_id), message.data, headers=headers)

    async def _beat(self) -> None:
        """Tell the server that what is here is still here, held messages included."""
        while True:
            await asyncio.sleep(self._beat_s)
            held = [message for loop in self._loops for message in loop.held()]
            for message in [*self._in_hand.values(), *held]:
                await self._settle(message.in_progress())

    @staticmethod
    async def _settle(sending: Awaitable[Any]) -> None:
        """Send an acknowledgement; if it cannot be sent the server delivers again, which is safe."""
        try:
            await sending
        except (nats.errors.Error, TimeoutError) as error:
            logger().warning("acknowledgement_lost", error=str(error))


def _names_in(subject: str) -> tuple[str, str]:
    run, check_id = subject.split(".")[-2:]
    return run, check_id


def _jittered(delay_s: float) -> float:
    # So that what failed together does not come back together.
    return delay_s * random.uniform(1.0, 1.25)
