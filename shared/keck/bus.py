"""One connection to NATS: publish with acknowledgement, verdicts that are stored once, direct reads.

What this module keeps away from the rest of the code, each measured against nats-py 2.16:

* a callback that raises leaves a connection that looks alive and reads nothing, so no callback here raises;
* ``publish_async`` loses errors, so every publish awaits its acknowledgement;
* ``drain()`` hangs on pull subscriptions, so closing is flush and close;
* what the server refuses to this user looks like silence, so whoever waits for an answer is told of it here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, ServiceUnavailableError

from keck import subjects
from keck.errors import BadRequest, NotPermitted, QueueFull, Unavailable
from keck.logs import logger
from keck.messages import CheckProgress, EvalDone, Event, encode
from keck.settings import Settings
from keck.tls import bus_context

__all__ = ["DEFAULT_NATS_URL", "NO_HEADERS", "Bus", "connect", "is_direct_miss"]

DEFAULT_NATS_URL: Final = "nats://127.0.0.1:4222"
NO_HEADERS: Final[Mapping[str, str]] = {}

_CONNECT_TIMEOUT_S = 5.0
_ACK_TIMEOUT_S = 3.0
_PUBLISH_PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Between attempts at one publish; an acknowledgement that never comes adds its own timeout."""
_FLUSH_TIMEOUT_S = 2
_CLOSE_TIMEOUT_S = 0.5
_STREAM_FULL = 10077
_MESSAGE_TOO_LARGE = 10054
_MAX_SUBJECT_BYTES = 2048
"""For a line of more than 4,096 bytes, subject, reply and sizes, the server closes the connection."""
_WRONG_LAST_SEQUENCE = (10071, 10164)
_DENIED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"', re.IGNORECASE)
"""The protocol has no code for it: an error is a line of text."""
_DENIALS_REMEMBERED = 256
_BATCH_TIMEOUT_S = 10.0
_BATCH_OVER = ("204", "404")
"""The end of the batch; and: there are none."""
_BATCH_BYTES = 8 << 20

_T = TypeVar("_T")


class Bus:
    """One connection to the bus."""

    def __init__(self, nc: Client, denials: _Denials | None = None) -> None:
        self.nc = nc
        self._denials = denials or _Denials()
        self.js: JetStreamContext = nc.jetstream(timeout=_ACK_TIMEOUT_S)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        user: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        on_closed: Callable[[], None] | None = None,
    ) -> Bus:
        """Connect to the first of `url`'s servers (comma separated) that answers; with `tls`, encrypted or not at all.

        Raises:
            Unavailable: none answered, or the credentials were refused.
        """
        servers = [part.strip() for part in url.split(",") if part.strip()]
        nc = _Client(encrypted=tls is not None)
        reports = _Reports(nc, servers=len(servers), on_closed=on_closed)
        options: dict[str, Any] = {
            "name": name,
            "max_reconnect_attempts": -1,  # the default gives up for good after two minutes
            "reconnect_time_wait": 0.5,
            "ping_interval": 5,  # the default notices a half-open connection after six minutes
            "max_outstanding_pings": 2,
            "connect_timeout": 3,
            "pending_size": 8 << 20,
            "error_cb": reports.error,
            "disconnected_cb": reports.disconnected,
            "reconnected_cb": reports.reconnected,
            "closed_cb": reports.closed,
        }
        if user:
            options |= {"user": user, "password": password, "inbox_prefix": subjects.inbox_prefix(user)}
        if tls is not None:
            options["tls"] = tls
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await nc.connect(servers, **options)
        except (OSError, ValueError, TimeoutError, nats.errors.Error) as error:
            reason = reports.last or error  # before closing, which may fail for reasons of its own
            reports.forget_owner()
            with contextlib.suppress(TimeoutError):
                # After a TLS handshake that failed the library waits for the end of a connection that is gone.
                await asyncio.wait_for(nc.close(), _CLOSE_TIMEOUT_S)
            raise Unavailable(_refusal(servers, reason)) from error
        reports.connected = True
        return cls(nc, reports.denials)

    async def __aenter__(self) -> Self:
        """The connection itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close."""
        await self.close()

    async def publish(
        self, subject: str, event: Event, *, msg_id: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> int:
        """Store an event and return its stream sequence, that of the first copy if `msg_id` is known.

        Raises:
            QueueFull: the stream is at its limit; nothing was stored.
            BadRequest: larger than the stream takes, or its subject than the server does.
            Unavailable: no acknowledgement after several attempts.
        """
        ack = await self.store(subject, encode(event), headers={**headers, subjects.MSG_ID: msg_id})
        return ack.seq

    async def store(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        once: bool = False,
        timeout_s: float = _ACK_TIMEOUT_S,
    ) -> PubAck:
        """Publish bytes to a stream; again while nobody answers, unless `once`.

        Raises:
            QueueFull, BadRequest, Unavailable: as for `publish`.
            NotPermitted: the server refuses this subject to this user.
            nats.js.errors.APIError: the server refused for another reason.
        """
        _require_short(subject)
        last: Exception | None = None
        for pause_s in (None,) if once else (*_PUBLISH_PAUSES_S, None):
            try:
                return await self._unless_denied(
                    subject,
                    self.js.publish(subject, payload, timeout=timeout_s, headers=dict(headers) or None),
                )
            except (TimeoutError, NoStreamResponseError, nats.errors.OutboundBufferLimitError) as error:
                last = error
            except ServiceUnavailableError as error:
                if error.err_code == _STREAM_FULL:
                    raise QueueFull(f"the stream behind {subject} is full") from error
                last = error
            except BadRequestError as error:
                if error.err_code == _MESSAGE_TOO_LARGE:
                    raise BadRequest(f"{len(payload)} bytes are more than the stream takes") from error
                raise
            except nats.errors.MaxPayloadError as error:
                raise BadRequest(f"{len(payload)} bytes are more than the NATS server takes") from error
            except nats.errors.ConnectionClosedError as error:
                raise Unavailable("the connection to NATS is closed") from error
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise Unavailable(f"NATS did not acknowledge a message on {subject}: {_what(last)}") from last

    async def publish_terminal(self, event: EvalDone) -> bool:
        """Store the verdict unless its check has one; True if the stored verdict is this one.

        The server refuses a second message on the subject for as long as it keeps the first. After a lost
        acknowledgement our own first attempt is refused likewise, so the stored bytes decide.

        Raises:
            Unavailable: neither stored nor known to be decided.
        """
        subject = subjects.eval_done(subjects.CheckKey.of(event))
        payload = encode(event)
        headers = {subjects.MSG_ID: subject, subjects.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}
        try:
            ack = await self.store(subject, payload, headers=headers)
        except APIError as error:
            if error.err_code not in _WRONG_LAST_SEQUENCE:
                raise Unavailable(
                    f"NATS refused a verdict: {error.description} ({error.err_code})"
                ) from error
        else:
            if not ack.duplicate:
                return True
        stored = await self.last_by_subject(subjects.EVALS, subject)
        return stored is not None and stored[1] == payload

    async def publish_terminals(self, events: Sequence[EvalDone]) -> list[bool]:
        """Store many verdicts at once, each unless its check has one; which of them are stored by this call.

        A tenth of the time that as many `publish_terminal` take. For a few hundred at a time: all are on their way
        before the first answer.

        Raises:
            Unavailable: of some it is neither known that they are stored nor that their check is decided.
        """
        stored = await self._stored_in_one_go(events)
        return [
            await self.publish_terminal(event) if known is None else known
            for event, known in zip(events, stored, strict=True)
        ]

    async def _stored_in_one_go(self, events: Sequence[EvalDone]) -> list[bool | None]:
        """Of each verdict whether it was stored; None where the answer does not say."""
        answers: list[bool | None] = [None] * len(events)
        missing = len(events)
        complete = asyncio.Event()

        async def answered(message: Msg) -> None:
            nonlocal missing
            answers[int(message.subject.rpartition(".")[2])] = _is_stored(message.data)
            missing -= 1
            if not missing:
                complete.set()

        inbox = self.nc.new_inbox()
        subscription = await self.nc.subscribe(f"{inbox}.*", cb=answered)
        try:
            for number, event in enumerate(events):
                subject = subjects.eval_done(subjects.CheckKey.of(event))
                headers = {subjects.MSG_ID: subject, subjects.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}
                await self.nc.publish(subject, encode(event), f"{inbox}.{number}", headers=headers)
            if events:
                await asyncio.wait_for(complete.wait(), _ACK_TIMEOUT_S)
        except (TimeoutError, nats.errors.Error) as error:
            logger().warning("verdicts_unanswered", count=missing, error=_what(error))
        finally:
            if not self.nc.is_closed:
                await subscription.unsubscribe()
        return answers

    async def publish_progress(self, progress: CheckProgress) -> None:
        """Tell whoever listens where a check is; never raises, may be lost."""
        try:
            await self.nc.publish(subjects.progress(progress.run, progress.check_id), encode(progress))
        except nats.errors.Error as error:
            logger().debug("progress_lost", error=_what(error))

    async def last_by_subject(self, stream: str, subject: str) -> tuple[int, bytes] | None:
        """Sequence and bytes of the newest message on a literal subject, or None.

        Raises:
            Unavailable: the server did not answer.
        """
        message = await self.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
        if is_direct_miss(message):
            return None
        return int((message.headers or {})["Nats-Sequence"]), message.data

    async def batch(
        self, stream: str, query: Mapping[str, Any], *, limit_bytes: int = _BATCH_BYTES
    ) -> AsyncIterator[Msg]:
        """One direct get of many messages, in order: no consumer, no flow control.

        Args:
            stream: where they lie.
            query: which ones (ADR-31): ``batch`` and, say, ``seq`` and ``next_by_subj``.
            limit_bytes: what the server may send in one go; it ends the batch there.

        Raises:
            Unavailable: the server did not answer in time.
            NotPermitted: it refuses this to this user.
        """
        subject = f"$JS.API.DIRECT.GET.{stream}"
        arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

        async def take(message: Msg) -> None:
            arrived.put_nowait(message)

        inbox = self.nc.new_inbox()
        denied = self._denials.watch(subject)
        denied.add_done_callback(lambda _: arrived.put_nowait(None))
        subscription = await self.nc.subscribe(inbox, cb=take, pending_bytes_limit=4 * limit_bytes)
        try:
            body = json.dumps({"max_bytes": limit_bytes, **query}).encode()
            await self.nc.publish(subject, body, inbox)
            while True:
                message = await asyncio.wait_for(arrived.get(), _BATCH_TIMEOUT_S)
                if message is None:
                    self._denials.check(subject)
                    raise Unavailable("the connection to NATS is closing")
                status = (message.headers or {}).get("Status")
                if status in _BATCH_OVER:
                    return
                if status is not None:  # 503: nobody serves the stream at this moment
                    raise Unavailable(f"NATS does not give messages of {stream}: status {status}")
                yield message
        except TimeoutError as error:
            raise Unavailable(f"NATS did not deliver messages of {stream} in time") from error
        except nats.errors.Error as error:
            raise Unavailable(f"NATS cannot be asked for messages of {stream}: {_what(error)}") from error
        finally:
            self._denials.unwatch(subject, denied)
            if not self.nc.is_closed:
                await subscription.unsubscribe()

    async def delete_message(self, stream: str, sequence: int) -> None:
        """Take a message out of a stream; gone already is as good.

        Raises:
            Unavailable: the server does not answer, or refuses this to this user.
        """
        # `no_erase`: overwriting it with random bytes is for secrets, and slow.
        await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})

    async def is_decided(self, key: subjects.CheckKey) -> bool:
        """Whether a verdict is stored: an earlier delivery may have got that far, its acknowledgement lost.

        Raises:
            Unavailable: the bus does not answer.
        """
        return await self.last_by_subject(subjects.EVALS, subjects.eval_done(key)) is not None

    async def request(self, subject: str, payload: bytes, *, timeout_s: float = _ACK_TIMEOUT_S) -> Msg:
        """Ask the server something that may be asked twice, and once more while it is restarting.

        Raises:
            BadRequest: the subject is longer than the server takes.
            Unavailable: nobody answered.
            NotPermitted: the server refuses this subject to this user.
        """
        _require_short(subject)
        last: Exception | None = None
        for pause_s in (*_PUBLISH_PAUSES_S, None):
            try:
                return await self._unless_denied(
                    subject, self.nc.request(subject, payload, timeout=timeout_s)
                )
            except (TimeoutError, nats.errors.NoRespondersError) as error:
                last = error
            except nats.errors.ConnectionClosedError as error:
                raise Unavailable("the connection to NATS is closed") from error
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise Unavailable(f"NATS did not answer {subject}: {_what(last)}") from last

    async def api(self, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A JetStream API call; the answer may hold ``error``.

        Raises:
            Unavailable: nobody answered: JetStream is off, or this user may not call it.
        """
        message = await self.request(f"$JS.API.{subject}", json.dumps(body).encode())
        answer: dict[str, Any] = json.loads(message.data)
        return answer

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Hear a core subject; what the callback raises is logged. One message at a time: start tasks.

        Raises:
            NotPermitted: the server refuses this subject to this user.
        """

        async def guarded(message: Msg) -> None:
            try:
                await callback(message)
            except Exception:  # noqa: BLE001 - raised into nats-py it would be reported and lost
                logger().exception("subscriber_failed", subject=message.subject)

        self._denials.forget(subject)
        subscription = await self.nc.subscribe(subject, queue=queue, cb=guarded)
        await self.barrier()
        self._denials.check(subject)  # a refusal comes before the barrier's answer
        return subscription

    async def barrier(self) -> None:
        """Return once the server has processed everything sent so far, or cannot be asked.

        One ``flush()`` of nats-py is not enough: its PING overtakes what is still buffered. By the time of the
        first PONG the buffer has been written, so that the second PING comes after it.
        """
        try:
            await self.nc.flush(_FLUSH_TIMEOUT_S)
            await self.nc.flush(_FLUSH_TIMEOUT_S)
        except (TimeoutError, nats.errors.Error) as error:
            logger().warning("bus_flush_failed", error=_what(error))

    async def _unless_denied(self, subject: str, asking: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of asking, or NotPermitted as soon as the server says so: else it is silence until a timeout."""
        denied = self._denials.watch(subject)
        answer = asyncio.ensure_future(asking)
        either: tuple[asyncio.Future[Any], asyncio.Future[Any]] = (answer, denied)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self._denials.check(subject)
            return await answer
        finally:
            self._denials.unwatch(subject, denied)
            answer.cancel()

    async def close(self) -> None:
        """Flush what is buffered, then close; safe to call twice."""
        if self.nc.is_closed:
            return
        if self.nc.is_connected:
            await self.barrier()
        await self.nc.close()


async def connect(
    settings: Settings, *, name: str, url: str = "", on_closed: Callable[[], None] | None = None
) -> Bus:
    """Connect as the settings say, to `url` if given.

    Raises:
        Unavailable: no server answers there, or it refuses us.
        SettingError: a file of TLS cannot be used.
    """
    where = url or settings.nats_url or DEFAULT_NATS_URL
    return await Bus.connect(
        where,
        name=name,
        user=settings.nats_user,
        password=settings.nats_password,
        tls=bus_context(settings, url=where),
        on_closed=on_closed,
    )


class _ApiError(msgspec.Struct, frozen=True):
    err_code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What the server says to a publication."""

    duplicate: bool = False
    error: _ApiError | None = None


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode


def _is_stored(data: bytes) -> bool | None:
    """Whether the verdict that this answers was stored; None where the stored bytes must decide."""
    try:
        answer = _decode_answer(data)
    except msgspec.DecodeError:
        return None  # 503: no stream listens at this moment
    if answer.error is not None:
        return False if answer.error.err_code in _WRONG_LAST_SEQUENCE else None
    return None if answer.duplicate else True


def is_direct_miss(message: Msg) -> bool:
    """Whether a direct get answered that there is no such message."""
    return bool(message.headers) and (message.headers or {}).get("Status") in {"404", "408"}


def _require_short(subject: str) -> None:
    if len(subject.encode()) > _MAX_SUBJECT_BYTES:
        raise BadRequest(
            f"a name is too long: a subject of {len(subject)} characters begins {subject[:80]!r}"
        )


class _Client(Client):
    """A client that sends no password to a server without TLS where TLS was asked for; the library's would."""

    def __init__(self, *, encrypted: bool) -> None:
        super().__init__()
        self._encrypted = encrypted

    def _connect_command(self) -> bytes:
        if self._encrypted and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not speak TLS, which the settings ask for")
        command: bytes = super()._connect_command()
        return command


class _Denials:
    """Subjects that the server refused to this user, and who waits to hear of it."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._watching: dict[str, set[asyncio.Future[None]]] = {}

    def add(self, subject: str) -> bool:
        """The server refused it; whether somebody was waiting and is told."""
        key = subject.lower()  # nats-py passes the text on in lower case
        self._refused[key] = None
        if len(self._refused) > _DENIALS_REMEMBERED:
            self._refused.popitem(last=False)
        watching = self._watching.get(key, ())
        for waiting in watching:
            if not waiting.done():
                waiting.set_result(None)
        return bool(watching)

    def watch(self, subject: str) -> asyncio.Future[None]:
        """Done once the server refuses this subject, from now on: permissions may have changed since the last time."""
        self.forget(subject)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.setdefault(subject.lower(), set()).add(waiting)
        return waiting

    def unwatch(self, subject: str, waiting: asyncio.Future[None]) -> None:
        """Nobody waits there any more."""
        waiting.cancel()
        watching = self._watching[subject.lower()]
        watching.discard(waiting)
        if not watching:
            del self._watching[subject.lower()]

    def forget(self, subject: str) -> None:
        """It is about to be asked for again."""
        self._refused.pop(subject.lower(), None)

    def check(self, subject: str) -> None:
        """Raise NotPermitted if the server refused it."""
        if subject.lower() in self._refused:
            raise NotPermitted(
                f"the NATS server refuses {subject} to this user; "
                "is KECK_NATS_USER the role that this process has?"
            )


class _Reports:
    """What nats-py tells about the connection, as log lines. Nothing here may raise once connected."""

    def __init__(self, nc: Client, *, servers: int, on_closed: Callable[[], None] | None) -> None:
        self.connected = False
        self.last: Exception | None = None
        self.denials = _Denials()
        self._nc = nc
        self._failures_left: int | None = servers
        self._on_closed = on_closed

    def forget_owner(self) -> None:
        """The connection never came to be: its closing is nobody's business, and nothing is left to fail."""
        self._on_closed = None
        self._failures_left = None

    async def error(self, error: Exception) -> None:
        self.last = error
        if self.connected:
            if denied := _DENIED.search(str(error)):
                if not self.denials.add(denied[1]):
                    logger().error("bus_permission_denied", error=_what(error))
                return
            logger().error("bus_error", error=_what(error))
            return
        if self._failures_left is None:
            return
        # With endless reconnection the first connect is endless too. It awaits this callback in its own
        # loop, so that raising here, and only before the reader runs, ends it once every server failed.
        self._failures_left -= 1
        if self._failures_left <= 0:
            raise error

    async def disconnected(self) -> None:
        if self.connected and not self._nc.is_closed:  # closing on purpose disconnects as well
            logger().warning("bus_disconnected")

    async def reconnected(self) -> None:
        logger().info("bus_reconnected", url=self._nc.connected_url.netloc if self._nc.connected_url else "")

    async def closed(self) -> None:
        if self._on_closed is not None:
            self._on_closed()


def _refusal(servers: list[str], error: Exception) -> str:
    shown = ", ".join(_without_password(server) for server in servers) or "no address"
    return (
        f"cannot connect to NATS at {shown}: {_what(error)}. "
        "Is the server running (`keck up` starts one), is KECK_NATS_URL right, and does the server know "
        "KECK_NATS_USER with this password?"
    )


def _without_password(server: str) -> str:
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        return f"{parts.hostname}:{parts.port or 4222}"
    except ValueError:
        return "an address that cannot be read"


def _what(error: Exception | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
