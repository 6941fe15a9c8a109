"""Processes that read hostile text: what a text does to one costs that text and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keck.errors import Retry
from keck.messages import MAX_SOURCE_BYTES
from keck.testing import async_wait_until
from keck_compiler.reading.reader import Reader, Unreadable
from keck_compiler.reading.texts import Answer, ReadCandidate, ReadExtension, ReadFindings, ReadReference
from keck_compiler.scan import Site

MODEL = "import torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
# Python 3.11's parser takes 8 s for it: quadratic in the fields.
BOMB = MODEL + "x = f'" + "{a}" * ((MAX_SOURCE_BYTES - len(MODEL) - 10) // 3) + "'\n"


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    made = Reader(tmp_path)
    yield made
    await made.close()


def _candidate(source: str) -> ReadCandidate:
    return ReadCandidate(kind="kernel", source=source)


async def test_a_text_is_read_for_its_form_its_builds_and_its_findings(reader: Reader) -> None:
    built = MODEL + "from torch.utils.cpp_extension import load_inline\next = load_inline('a', '')\n"
    answer = await reader.read(_candidate(built))
    assert answer.problem is None
    assert answer.sites == [Site(6, 6, deferred=False)]
    answer = await reader.read(ReadFindings(source=built, low_types=False))
    assert [(found.code, found.line) for found in answer.reading.findings] == [
        ("delegation.aten", 4),
        ("provenance.decoy_kernel", 6),
    ]
    assert (await reader.read(_candidate("x = 1"))).problem == (
        "the candidate defines no class `ModelNew`: name your module `ModelNew`"
    )
    assert "not valid Python" in (
        (await reader.read(ReadReference(kind="kernel", source="def"))).problem or ""
    )
    texts = [("own.cu", "__global__ void own(float*) {}\nvoid f() { own<<<1, 1>>>(p); }")]
    answer = await reader.read(ReadExtension(texts=texts, low_types=False))
    assert (answer.reading.kernels, answer.reading.findings) == (["own"], [])


@pytest.mark.timeout(180)
async def test_a_text_that_takes_too_long_is_given_up_while_others_are_read(reader: Reader) -> None:
    await asyncio.gather(*(reader.read(_candidate(MODEL)) for _ in range(2)))  # both processes are there
    bomb = asyncio.create_task(reader.read(_candidate(BOMB)))
    meanwhile = 0
    while not bomb.done():
        assert (await reader.read(_candidate(MODEL))).problem is None
        meanwhile += 1
    assert meanwhile > 10
    with pytest.raises(Unreadable, match="takes more than 2 s to read"):
        await bomb
    assert (await reader.read(_candidate(MODEL))).problem is None


@pytest.mark.parametrize(
    "source",
    [
        MODEL + "x = " + "(" * 90_000 + ")" * 90_000,
        MODEL + "x = " + "-" * 300_000 + "1",
        MODEL + "x" + ".a" * 150_000,
        MODEL + "x = " + "[" * 100 + "]" * 100,
        MODEL + "y = " + "+".join("x" for _ in range(150_000)),
        MODEL + "x = '''\n__global__ " + "{" * 300_000 + "'''",
        MODEL + 'x = """__global__ ' + 'R"(' * 90_000 + '"""',
        MODEL + "if 1:\n" + "".join(f"{' ' * depth}try:\n" for depth in range(1, 90)),
    ],
    ids=["parentheses", "minus", "attributes", "lists", "sum", "braces", "raw strings", "tries"],
)
async def test_texts_of_any_shape_are_answered(reader: Reader, source: str) -> None:
    answer = Answer()
    for question in (_candidate(source), ReadFindings(source=source, low_types=False)):
        with contextlib.suppress(Unreadable):
            answer = await reader.read(question)
    assert (await reader.read(_candidate(MODEL))).problem is None, answer


async def test_a_process_that_is_killed_is_replaced_and_the_text_read_all_the_same(reader: Reader) -> None:
    await asyncio.gather(*(reader.read(_candidate(MODEL)) for _ in range(2)))
    before = reader.pids
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await async_wait_until(lambda: not any(map(_is_there, before)))
    answers = await asyncio.gather(*(reader.read(_candidate(MODEL)) for _ in range(4)))
    assert all(answer.problem is None for answer in answers)
    assert not set(before) & set(reader.pids)


async def test_a_text_whose_reader_is_killed_while_it_reads_is_read_again(reader: Reader) -> None:
    reading = asyncio.create_task(reader.read(_candidate(BOMB)))
    os.kill(await _busy(reader, set()), signal.SIGSEGV)
    with pytest.raises(Unreadable, match="takes more than 2 s"):  # not: ends the process that reads it
        await reading


@pytest.mark.parametrize(("sent", "blamed"), [(signal.SIGSEGV, Unreadable), (signal.SIGKILL, Retry)])
async def test_a_crash_twice_is_the_texts_doing_and_a_kill_is_not(
    reader: Reader, sent: signal.Signals, blamed: type[Exception]
) -> None:
    reading = asyncio.create_task(reader.read(_candidate(BOMB)))
    first = await _busy(reader, set())
    os.kill(first, sent)
    os.kill(await _busy(reader, {first}), sent)
    with pytest.raises(blamed):
        await reading
    assert (await reader.read(_candidate(MODEL))).problem is None


async def _busy(reader: Reader, besides: set[int]) -> int:
    """A reading process, past its imports and in the middle of a text."""

    def found() -> list[int]:
        return [pid for pid in reader.pids if pid not in besides and _cpu_ticks(pid) > 60]

    await async_wait_until(lambda: bool(found()), timeout_s=30)
    return found()[0]


def _cpu_ticks(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except OSError:
        return 0


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_closed_reader_leaves_no_process(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.read(_candidate(MODEL))
    (pid,) = reader.pids
    await reader.close()
    assert not _is_there(pid)
    assert reader.pids == []


async def test_an_error_of_the_readers_own_is_told_as_that(reader: Reader) -> None:
    answer = await reader.read(ReadReference(kind="no such kind", source=MODEL))
    assert answer.failed is not None
    assert "no such kind" in answer.failed
    assert (await reader.read(_candidate(MODEL))).failed is None
