"""The compiler's end: processes that read texts, kept alive, bounded, and replaced when a text ends one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from keck.errors import Retry
from keck.logs import logger
from keck_compiler.reading.child import HEADER
from keck_compiler.reading.texts import Answer, Question
from keck_compiler.spawning import spawn_cell
from keck_sandbox import Exit, Policy, Process

__all__ = ["Reader", "Unreadable"]

CPU_S = 2.0
"""For one text."""
_WALL_S = 60.0
"""The same on a machine that has no time; who is late then is not the text."""
_MEMORY_BYTES = 768 << 20
_MAX_ANSWER_BYTES = 4 << 20
_END_S = 5.0
_TRIES = 2
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP")
_answers = msgspec.msgpack.Decoder(Answer)


class Unreadable(Exception):
    """A text ends the process that reads it; the message says how, as the end of a sentence about the text."""


@dataclass(slots=True)
class _Child:
    process: Process
    sock: socket.socket

    async def ask(self, data: bytes) -> bytes:
        """The answer's bytes; empty where the process ended."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.sock, HEADER.pack(len(data), CPU_S) + data)
            length, _ = HEADER.unpack(await _exactly(self.sock, HEADER.size))
            if length > _MAX_ANSWER_BYTES:
                return b""
            return await _exactly(self.sock, length)
        except (ConnectionError, EOFError):
            return b""

    async def end(self) -> Exit | None:
        self.sock.close()
        ended = await self.process.wait(_END_S)
        await self.process.kill()
        return ended


class Reader:
    """Reads hostile texts elsewhere: a text that takes too long costs itself, and the event loop nothing.

    Args:
        directory: the processes' own are made below it.
        children: texts read at once; one that is slow keeps one of them.
    """

    def __init__(self, directory: Path, *, children: int = 2) -> None:
        self._directory = directory
        self._children: list[_Child | None] = [None] * children
        self._idle: asyncio.Queue[int] = asyncio.Queue()
        for number in range(children):
            self._idle.put_nowait(number)

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [child.process.leader for child in self._children if child is not None]

    async def read(self, question: Question) -> Answer:
        """Ask.

        Raises:
            Unreadable: the text takes too long, too much memory, or crashes the process, twice.
            Retry: this machine cannot read it now.
        """
        data = msgspec.msgpack.encode(question)
        number = await self._idle.get()
        try:
            return await self._read(number, data)
        finally:
            self._idle.put_nowait(number)

    async def close(self) -> None:
        """End the processes."""
        for number in range(len(self._children)):
            await self._drop(number)

    async def _read(self, number: int, data: bytes) -> Answer:
        for attempt in range(1, _TRIES + 1):
            child = self._children[number]
            if child is None or not child.process.running:
                await self._drop(number)
                child = self._children[number] = await self._start(number)
            try:
                async with asyncio.timeout(_WALL_S):
                    told = await child.ask(data)
                if told:
                    return _answers.decode(told)
            except TimeoutError:
                await self._drop(number)
                raise Retry(f"no text was read within {_WALL_S:g} s", failure_kind="reader_late") from None
            except BaseException:
                await self._drop(number)  # in the middle of an answer nobody can ask again
                raise
            ended = await self._drop(number)
            if (reason := _blames_text(ended)) is not None:
                raise Unreadable(reason)
            # It may have been killed from outside once; what kills it twice in the way of a crash is the text.
            if attempt == _TRIES:
                raise _end_of(ended)
        raise AssertionError("unreachable")

    async def _start(self, number: int) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        directory = self._directory / f"reader{number}"
        policy = Policy(
            name="reader",
            directory=directory,
            pass_fds=(theirs.fileno(),),
            memory_bytes=_MEMORY_BYTES,
            data_bytes=_MEMORY_BYTES,
            work_bytes=1 << 20,
            processes=64,
        )
        argv = [sys.executable, "-P", "-m", "keck_compiler.reading.child", str(theirs.fileno())]
        try:
            process = await spawn_cell(policy, argv)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Child(process, ours)

    async def _drop(self, number: int) -> Exit | None:
        child, self._children[number] = self._children[number], None
        if child is None:
            return None
        ended = None
        with contextlib.suppress(TimeoutError):
            ended = await child.end()
        if ended is not None and ended.code:
            logger().info("reader_ended", how=ended.described)
        return ended


def _blames_text(ended: Exit | None) -> str | None:
    if ended is None:
        return None
    if ended.signal_name == "SIGPROF":
        return f"takes more than {CPU_S:g} s to read"
    if ended.over_memory:
        return f"takes more than {_MEMORY_BYTES >> 20} MiB to read"
    return None


def _end_of(ended: Exit | None) -> Unreadable | Retry:
    """A crash is the text's doing; an exit, or a kill that no limit of ours explains, is not."""
    if ended is not None and ended.signal_name in _CRASHES:
        return Unreadable(f"ends the process that reads it ({ended.described})")
    how = ended.described if ended is not None else "gone without a word"
    return Retry(f"the process that reads texts was {how}", failure_kind="reader_lost")


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts, left = [], size
    while left:
        data = await loop.sock_recv(sock, min(left, 1 << 18))
        if not data:
            raise EOFError
        parts.append(data)
        left -= len(data)
    return b"".join(parts)
