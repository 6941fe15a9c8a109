"""Request-reply on the bus: what HTTP offers, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
import nats.errors
from litestar.exceptions import HTTPException
from nats.aio.msg import Msg

from keck import subjects
from keck.errors import BadRequest, KeckError, QueueFull
from keck.logs import logger
from keck.messages import DECODING_ERRORS, CheckCancel, EvalDone, ReplayProgress, decode
from keck.subjects import CheckKey
from keck_gateway.bodies import CheckBody, ReplayBody
from keck_gateway.desk import Desk
from keck_gateway.problems import MAX_BODY_BYTES, Problem, problem_of

__all__ = ["ErrorReply", "NatsService"]

_IN_HAND_FACTOR: Final = 2
"""Requests in hand for each that may wait: most of the others are on their way to being refused."""
_OVERLOADED: Final = "as many requests as may are in hand on this gateway; ask again later"
_Body = TypeVar("_Body", CheckBody, ReplayBody)


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a request gets instead of an answer."""

    error: Problem


class NatsService:
    """Answers ``keck.check``, ``keck.replay`` and ``check.cancel``; of several gateways each request reaches one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Take requests while this lasts; then stop, and let those in hand be answered."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._finish)
            for subject, answer in (
                (subjects.CHECK_SERVICE, self._check),
                (subjects.REPLAY_SERVICE, self._replay),
                (subjects.CANCELS, self._cancel),
            ):
                await stack.enter_async_context(self._taking(subject, answer))
            yield

    @asynccontextmanager
    async def _taking(self, subject: str, answer: Callable[[Msg], Awaitable[None]]) -> AsyncIterator[None]:
        async def received(message: Msg) -> None:
            await self._received(message, answer)

        subscription = await self._desk.bus.subscribe(subject, received, queue=subjects.GATEWAY_QUEUE)
        try:
            yield
        finally:
            if not self._desk.bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _received(self, message: Msg, answer: Callable[[Msg], Awaitable[None]]) -> None:
        if not message.reply and answer != self._cancel:
            logger().warning("request_without_reply_subject", subject=message.subject)
            return
        if subjects.is_reserved(message.reply):
            logger().warning("reply_subject_refused", reply=message.reply)
            return
        # The subscription hands over one message at a time, so each gets a task. What bounds them is the
        # number of callers that may wait: above it the task ends at once with a 429.
        if len(self._tasks) >= self._desk.settings.max_waiting * _IN_HAND_FACTOR:
            await self._reply(message, ErrorReply(error=problem_of(QueueFull(_OVERLOADED))))
            return
        task = asyncio.create_task(self._answer(message, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Msg, answer: Callable[[Msg], Awaitable[None]]) -> None:
        try:
            await answer(message)
        except Exception as error:  # noqa: BLE001 - the boundary of a request; problem_of logs the unforeseen
            await self._reply(message, ErrorReply(error=problem_of(error, where=message.subject)))

    async def _reply(self, message: Msg, reply: EvalDone | ReplayProgress | ErrorReply) -> None:
        if not message.reply:
            return
        is_json = _is_json(message.data)
        data = msgspec.json.encode(reply) if is_json else msgspec.msgpack.encode(reply)
        try:
            # Not `message.respond`: it would send the request's headers back.
            await self._desk.bus.nc.publish(message.reply, data)
        except nats.errors.Error as error:
            logger().warning("reply_lost", error=str(error))

    async def _check(self, message: Msg) -> None:
        body = _decoded(message.data, CheckBody)
        event = self._desk.request_of(body, lane="interactive")
        verdict = await self._desk.judge(event, id_is_callers=body.check_id is not None)
        if verdict is None:
            raise KeckError("without a waiting time there is a verdict or an exception")
        await self._reply(message, verdict)

    async def _replay(self, message: Msg) -> None:
        async with aclosing(self._desk.replays.run(_decoded(message.data, ReplayBody))) as told:
            async for progress in told:
                await self._reply(message, progress)

    async def _cancel(self, message: Msg) -> None:
        """Workers hear it as well, and end what they hold; what nobody holds is ended here."""
        order = decode(message.data, CheckCancel)
        if message.subject != subjects.cancel(order.run, order.check_id):
            raise BadRequest(f"the order is to cancel {order.run}.{order.check_id}, its subject another's")
        key = CheckKey.of(order)
        await self._reply(message, await self._desk.cancel(key, reason=order.reason, tell_workers=False))


def _is_json(data: bytes) -> bool:
    return data[:64].lstrip()[:1] == b"{"


def _decoded(data: bytes, kind: type[_Body]) -> _Body:
    if len(data) > MAX_BODY_BYTES:
        raise HTTPException(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        if _is_json(data):
            return msgspec.json.decode(data, type=kind)
        return msgspec.msgpack.decode(data, type=kind)
    except DECODING_ERRORS as error:  # a ValidationError is a DecodeError as well
        raise BadRequest(f"body: {error}; send what the HTTP route takes, as JSON or msgpack") from error
