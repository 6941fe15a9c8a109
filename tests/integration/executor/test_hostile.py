"""Candidates and accidents that attack the protocol: every one ends in a verdict or a retry, never in a pass."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from keck.errors import Retry
from keck.messages import Options
from keck.testing import async_wait_until
from keck.verdict import Verdict
from keck_executor.quarantine import Quarantine
from keck_executor.runner_pool import PooledRunner

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

REFERENCE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1

def get_inputs():
    return [torch.rand(16, 8)]

def get_init_inputs():
    return []
"""
RIGHT = "return x * 2 + 1"
FIND_SOCKET = """
import os, socket, struct, sys, torch
from keck_executor.runner import serve, wire

def judge_socket():
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                return socket.socket(fileno=os.dup(int(entry)))
        except OSError:
            pass
    raise RuntimeError("no socket")

def serial():
    frame = sys._getframe()
    while frame is not None:
        command = frame.f_locals.get("command")
        if isinstance(command, dict) and "serial" in command:
            return command["serial"]
        frame = frame.f_back

def record(shape=(16, 8), strides=(8, 1), offset=0, nbytes=512, dtype="float32"):
    return wire.TensorRecord(dtype, shape, strides, offset, nbytes)

def reply(*tensors, nodes=None, status=wire.Status.OK, numbers=(0.0, 512.0), number=None):
    nodes = (wire.Node(wire.NodeKind.TENSOR),) if nodes is None else nodes
    return wire.pack_reply(wire.Reply(serial() if number is None else number, status, nodes, tensors,
                                      numbers=numbers))

class ModelNew(torch.nn.Module):
    def forward(self, x):
        sock = judge_socket()
        FORGE
        return x * 2 + 1
"""


def descriptors_of(pid: int | str) -> list[str]:
    """What a process has open."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found.append(os.readlink(entry))
    return sorted(found)


def forging(*lines: str) -> str:
    return FIND_SOCKET.replace("FORGE", "\n        ".join(lines))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["sock.send(reply(record()))", "os._exit(0)"], id="right form, no result"),
        pytest.param(["sock.send(reply(record(), number=1))"], id="another serial"),
        pytest.param(["sock.send(b'passed')"], id="junk"),
        pytest.param(["sock.send(b'')"], id="an empty datagram"),
        pytest.param(["sock.send(reply(record(), numbers=(0.0, float('nan'))))"], id="NaN bytes needed"),
        pytest.param(["sock.send(reply(record(), numbers=(0.0, float('inf'))))"], id="infinite bytes needed"),
        pytest.param(
            ["sock.send(reply(record(), numbers=(0.0, 2.0**53)))", "os._exit(0)"], id="many bytes needed"
        ),
        pytest.param(["sock.send(reply(record(offset=2**63)))"], id="beyond the arena"),
        pytest.param(["sock.send(reply(record(shape=(2**24, 2**24))))"], id="huge"),
        pytest.param(["sock.send(reply(record(shape=(0, 2**62), strides=(1, 1))))"], id="zero times huge"),
        pytest.param(["sock.send(reply(record(dtype='complex128')))"], id="another dtype"),
        pytest.param(["sock.send(reply(record(), record()))"], id="more tensors than nodes"),
        pytest.param(["sock.send(reply())"], id="fewer tensors than nodes"),
        pytest.param(["sock.send(reply(nodes=(wire.Node(wire.NodeKind.LIST, 1024),)))"], id="a tree cut off"),
        pytest.param(["sock.send(reply(record(), status=wire.Status.READY))"], id="ready to no burst"),
        pytest.param(["sock.send(reply(record(), status=wire.Status.NO_ROOM))"], id="no room"),
        pytest.param(["sock.shutdown(socket.SHUT_RDWR)"], id="hangs up"),
        pytest.param(["sock.shutdown(socket.SHUT_RD)"], id="will not listen"),
        pytest.param(
            [
                "sock.setblocking(False)",
                "try:",
                "    while True: sock.send(reply(record()))",
                "except OSError: pass",
            ],
            id="a flood of replies",
        ),
        pytest.param(
            ["socket.send_fds(sock, [reply(record(), number=1)], [0, 1, 2])"], id="descriptors with a reply"
        ),
    ],
)
async def test_a_forged_reply_is_a_failure_and_leaves_the_judge_alive(bench: Any, lines: list[str]) -> None:
    pid = bench.judge.pid
    outcome = (await bench.check(forging(*lines))).outcome
    assert outcome.verdict in (
        Verdict.RUNTIME_ERROR,
        Verdict.CRASHED,
        Verdict.WRONG_RESULT,
        Verdict.SHAPE_MISMATCH,
        Verdict.DTYPE_MISMATCH,
    ), outcome
    assert bench.judge.pid == pid
    assert (await bench.check(RIGHT)).outcome.verdict is Verdict.PASSED


async def test_a_runner_that_stops_reading_runs_out_of_time(bench: Any) -> None:
    outcome = (await bench.check("os.kill(os.getpid(), 19); return x", exec_timeout_s=1.0)).outcome
    assert outcome.verdict is Verdict.EXEC_TIMEOUT


@pytest.mark.parametrize("side", ["candidate", "reference"])
async def test_a_runner_killed_from_outside_is_found_gone(bench: Any, side: str) -> None:
    def kill(stage: str, candidate: PooledRunner, reference: PooledRunner) -> None:
        if stage == "correctness":
            os.kill((candidate if side == "candidate" else reference).process.pid, signal.SIGKILL)

    slow = REFERENCE.replace("return x * 2 + 1", "import time; time.sleep(0.3); return x * 2 + 1")
    outcome = (await bench.check(RIGHT, slow, on_stage=kill)).outcome
    assert outcome.verdict is (Verdict.CRASHED if side == "candidate" else Verdict.REFERENCE_ERROR)
    assert outcome.ended == side


async def test_a_judge_killed_in_the_middle_is_replaced_and_the_check_retried(bench: Any) -> None:
    def kill(stage: str, *_: PooledRunner) -> None:
        if stage == "correctness":
            assert bench.judge.pid is not None
            os.kill(bench.judge.pid, signal.SIGKILL)

    slow = REFERENCE.replace("return x * 2 + 1", "import time; time.sleep(0.3); return x * 2 + 1")
    with pytest.raises(Retry) as retry:
        await bench.check(RIGHT, slow, on_stage=kill)
    assert retry.value.failure_kind == "judge_lost"
    assert (await bench.check(RIGHT)).outcome.verdict is Verdict.PASSED


async def test_a_judge_killed_between_checks_is_replaced_by_the_next(bench: Any) -> None:
    before = bench.judge.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    try:
        outcome = (await bench.check(RIGHT)).outcome
    except Retry:  # it was not known yet
        outcome = (await bench.check(RIGHT)).outcome
    assert outcome.verdict is Verdict.PASSED
    assert bench.judge.pid != before


async def test_the_answer_to_an_abandoned_check_is_not_taken_for_the_next_ones(bench: Any) -> None:
    began = asyncio.Event()
    slow = REFERENCE.replace("return x * 2 + 1", "import time; time.sleep(0.3); return x * 2 + 1")
    abandoned = asyncio.create_task(bench.check("return x", slow, on_stage=lambda *_: began.set()))
    await began.wait()
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    outcome = (await bench.check(RIGHT)).outcome
    assert outcome.serial == bench.serial
    assert outcome.verdict is Verdict.PASSED


async def test_a_candidate_sees_no_seed_and_no_trace_of_the_reference(bench: Any) -> None:
    spy = """
    import gc, json
    seen = [os.getcwd(), sys.argv, sys.path, sorted(sys.modules), dict(os.environ)]
    for name in ("environ", "cmdline", "maps", "mountinfo"):
        seen.append(open(f"/proc/self/{name}", "rb").read().decode("utf-8", "replace"))
    for fd in os.listdir("/proc/self/fd"):
        try: seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError: pass
    held = [str(o) for o in gc.get_objects() if type(o) in (list, dict, tuple) and len(o) < 50 and o is not seen]
    open("seen", "w").write(json.dumps(seen) + "".join(held))
    raise SystemExit
    """
    places: list[tuple[str, str]] = []

    def note(_: str, candidate: PooledRunner, reference: PooledRunner) -> None:
        places.append((str(candidate.directory), str(reference.directory)))

    texts: list[str] = []
    original = PooledRunner.end

    async def read_then_end(runner: PooledRunner, quarantine: Quarantine) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = os.open("seen", os.O_RDONLY, dir_fd=runner.process.work_fd)
            with os.fdopen(found) as file:
                texts.append(file.read())
        await original(runner, quarantine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PooledRunner, "end", read_then_end)
        outcome = (await bench.check(spy, on_stage=note)).outcome
    assert outcome.seeds
    (seen,) = texts
    assert places[0][0] in seen
    assert places[0][1] not in seen
    for seed in outcome.seeds.split(","):
        assert seed not in seen
        assert str(int(seed, 16)) not in seen
    assert "keck_executor.judge" not in seen


async def test_the_candidate_stands_still_while_the_reference_is_timed(bench: Any) -> None:
    restless = """
    import threading, time, torch
    class ModelNew(torch.nn.Module):
        thread = None
        def forward(self, x):
            if self.thread is None:
                self.thread = threading.Thread(target=self.watch, daemon=True)
                self.thread.start()
            return x * 2 + 1
        def watch(self):
            last = time.monotonic()
            while True:
                time.sleep(0.001)
                now = time.monotonic()
                if now - last > 0.15: print("STOOD STILL", flush=True)
                last = now
    """
    slow = REFERENCE.replace("return x * 2 + 1", "import time; time.sleep(0.2); return x * 2 + 1")
    judged = await bench.check(restless, slow, options=Options(timed_calls=6, correctness_sets=1))
    assert judged.outcome.verdict is Verdict.PASSED
    assert judged.output.count("STOOD STILL") >= 2


async def test_checks_leave_no_descriptors_behind(bench: Any) -> None:
    async def counted() -> tuple[list[str], list[str]]:
        await bench.check(RIGHT)
        await bench.check("return x")
        await bench.check("os._exit(0)")
        await bench.check(forging("sock.send(b'junk')"))
        await bench.pool.refill()
        assert bench.judge.pid is not None
        return descriptors_of("self"), descriptors_of(bench.judge.pid)

    ours, judges = await counted()
    for _ in range(4):
        later_ours, later_judges = await counted()
    assert len(later_ours) == len(ours), (ours, later_ours)
    assert len(later_judges) == len(judges), (judges, later_judges)


async def test_a_dead_spare_is_passed_over(bench: Any) -> None:
    await bench.pool.refill()
    spare = bench.pool._spares[0]
    os.kill(spare.process.pid, signal.SIGKILL)
    await async_wait_until(lambda: not spare.process.running)
    assert (await bench.check(RIGHT)).outcome.verdict is Verdict.PASSED


async def test_a_dead_zygote_is_replaced(bench: Any) -> None:
    await bench.check(RIGHT)
    zygote = bench.pool._zygote
    if zygote is not None:
        os.kill(zygote.process.pid, signal.SIGKILL)
        await async_wait_until(lambda: not zygote.process.running)
    for _ in range(2):
        assert (await bench.check(RIGHT)).outcome.verdict is Verdict.PASSED


TRACER = """
import ctypes, os, sys
pid, seize = int(sys.argv[1]), 0x4206
if ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, None, None) != 0:
    sys.exit(77)
print("traced", flush=True)
sys.stdin.read()
"""


async def test_a_cell_that_does_not_end_is_waited_for_in_quarantine(bench: Any) -> None:
    """The part of a driver that holds a process is played by a debugger: the dead are its own until it lets go."""
    runner = await bench.pool.take("candidate")
    pipe = asyncio.subprocess.PIPE
    tracer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TRACER, str(runner.process.pid), stdin=pipe, stdout=pipe
    )
    try:
        assert tracer.stdout is not None
        if await tracer.stdout.readline() != b"traced\n":
            pytest.skip("no process may be traced here")
        await runner.end(bench.station.quarantine)
        (reason,) = bench.station.quarantine.reasons
        assert f"process {runner.process.leader} " in reason
        assert runner.directory.exists()
        # What is not of this device goes on.
        assert (await bench.check(RIGHT)).outcome.verdict is Verdict.PASSED
    finally:
        await tracer.communicate(b"")  # which closes its stdin
    await async_wait_until(lambda: not bench.station.quarantine.reasons)
    assert not runner.directory.exists()
