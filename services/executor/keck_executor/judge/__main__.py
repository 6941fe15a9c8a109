"""``python -m keck_executor.judge FD cpu|cuda``: the judge's process, one job after the other.

It lives as long as its executor: a device context costs half a second. An error of its own ends the process,
so that nothing half-done is carried into the next check; the executor starts another.
"""

from __future__ import annotations

import array
import os
import socket
import sys
import time

import msgspec
import torch

from keck.messages import Stage
from keck.verdict import Verdict
from keck_executor.devices import Device, open_device
from keck_executor.devices.select import versions
from keck_executor.judge.failure import Failed
from keck_executor.judge.job import Hello, Job, Outcome, Phase
from keck_executor.judge.link import BrokenProtocol, OutOfBudget, RunnerGone, RunnerLink
from keck_executor.judge.lint import Lints
from keck_executor.judge.session import Session
from keck_executor.runner.wire import ProtocolError

__all__ = ["main"]

_MAX_JOB = 256 * 1024
_jobs = msgspec.msgpack.Decoder(Job)


def main() -> None:
    """Serve until the executor hangs up."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    # The runners need the cores; the comparison of one check is bound by memory anyway.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    device = open_device(sys.argv[2])
    lints = Lints()
    control.send(msgspec.msgpack.encode(Hello(facts={**versions(), **device.facts()})))
    while True:
        data, fds = _receive(control)
        if not data:
            return
        job = _jobs.decode(data)
        outcome = _judge(job, device, control, [socket.socket(fileno=fd) for fd in fds], lints)
        control.send(msgspec.msgpack.encode(outcome))


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = control.recvmsg(_MAX_JOB, socket.CMSG_SPACE(2 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload)
    return data, list(fds)


def _judge(
    job: Job, device: Device, control: socket.socket, sockets: list[socket.socket], lints: Lints
) -> Outcome:
    def announce(stage: Stage, message: str) -> None:
        control.send(msgspec.msgpack.encode(Phase(serial=job.serial, stage=stage, message=message)))

    candidate = RunnerLink("candidate", sockets[0], job.candidate_pid, job.exec_timeout_s)
    reference = RunnerLink("reference", sockets[1], job.reference_pid, job.reference_timeout_s)
    session = Session(job, device, candidate=candidate, reference=reference, announce=announce, lints=lints)
    started = time.monotonic()
    try:
        if job.scrub:
            device.scrub()
        decided = _decide(session)
        state = session.device_state()
        held = time.monotonic() - started
    finally:
        session.close()
        for sock in sockets:
            sock.close()
        session.empty_cache()
    ledger = session.ledger
    return Outcome(
        serial=job.serial,
        verdict=decided.verdict,
        stage=session.stage,
        message=decided.message,
        ended=decided.ended,
        detail=decided.detail,
        correct=decided.correct,
        correctness=ledger.record() if ledger else None,
        timing=session.timing if decided.verdict is Verdict.PASSED else None,
        flags=session.flags,
        profile=session.profile,
        lint=session.lint,
        seeds=session.seeds,
        held_s=held,
        phases_s=session.phases_s,
        suspicion=session.suspicion if decided.verdict is Verdict.PASSED else "",
        device=state,
    )


def _decide(session: Session) -> Failed:
    """Run the session; its end as a verdict, a pass included."""
    try:
        session.run()
    except Failed as failed:
        # Its traceback would keep every tensor and mapping of the check alive until a garbage collection.
        failed.__cause__ = failed.__context__ = None
        return failed.with_traceback(None)
    except RunnerGone as gone:
        verdict = Verdict.CRASHED if gone.side == "candidate" else Verdict.REFERENCE_ERROR
        return Failed(verdict, str(gone), ended=gone.side)
    except OutOfBudget as late:
        verdict = Verdict.EXEC_TIMEOUT if late.side == "candidate" else Verdict.REFERENCE_ERROR
        return Failed(verdict, f"{late} (EXEC_TIMEOUT)")
    except BrokenProtocol as broken:
        # Only a process that was tampered with from inside says such things.
        verdict = Verdict.RUNTIME_ERROR if broken.side == "candidate" else Verdict.REFERENCE_ERROR
        return Failed(verdict, str(broken))
    except ProtocolError as error:
        return Failed(Verdict.RUNTIME_ERROR, f"the candidate described its results impossibly: {error}")
    timing = session.timing
    told = f"{timing.speedup:.2f}x the baseline's speed" if timing else "correct; timing was not asked for"
    return Failed(Verdict.PASSED, told, correct=True)


if __name__ == "__main__":
    main()
