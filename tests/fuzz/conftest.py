"""The budget of fuzzing: seconds in the ordinary run, the same for everybody; `FUZZ_SECONDS` in all with ``make fuzz``.

A target draws examples and checks each; its findings are exceptions other than those the parser documents, and
examples that take longer than they may. What was found once stays in the target's `known`, and is tried first.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, Phase, core, example, given, seed, settings
from hypothesis import strategies as st

from keck.embedded import Embedded

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""For all targets together; 0: the few fixed examples of the ordinary run."""
_EXAMPLES_A_ROUND = 500
_MAX_SHOWN = 3_000
_PRINTER = core.RepresentationPrinter
"""schemathesis puts one into its place that prints nothing, also for the tests of others."""
_REPORT = pytest.StashKey[list["Report"]]()
_SHARES = pytest.StashKey[int]()


class Hang(AssertionError):
    """An example used more processor time than its parser may."""


@dataclass
class Report:
    """What became of one target."""

    target: str
    examples: int = 0
    seconds: float = 0.0
    finding: str = ""


@contextmanager
def within(cpu_s: float) -> Iterator[None]:
    """End the block with `Hang` after this much processor time: of that, and so unmoved by a busy machine.

    Regular expressions look for signals while they run. Wall time is left to pytest-timeout.
    """

    def expired(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not done after {cpu_s:g} s of processor time")

    before = signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Fuzz:
    """Runs one target."""

    def __init__(self, report: Report, budget_s: float) -> None:
        self._report = report
        self._budget_s = budget_s

    def __call__(
        self,
        strategy: st.SearchStrategy[Any],
        check: Callable[[Any], object],
        *,
        known: Sequence[Any] = (),
        examples: int = 200,
        cpu_s: float = 2.0,
    ) -> None:
        """Check what is known, then what is drawn, until the budget is used up.

        Args:
            strategy: draws examples.
            check: raises where one is a finding.
            known: earlier findings.
            examples: how many are drawn in the ordinary run.
            cpu_s: processor time one example may take.
        """
        started = time.monotonic()

        def one(value: Any) -> None:
            if self._budget_s and time.monotonic() - started > self._budget_s:
                return  # the round's remainder
            self._report.examples += 1
            with within(cpu_s):
                try:
                    check(value)
                except Exception as error:
                    error.add_note(f"The example: {_shown(value)}")
                    raise

        try:
            self._run(one, strategy, known, examples, started)
        finally:
            self._report.seconds += time.monotonic() - started
            core.RepresentationPrinter = _PRINTER

    def _run(
        self,
        one: Callable[[Any], None],
        strategy: st.SearchStrategy[Any],
        known: Sequence[Any],
        examples: int,
        started: float,
    ) -> None:
        every_time = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
        for value in known:
            # One by one: hypothesis would tell of all that fail in one exception group.
            example(value)(settings(every_time, phases=[Phase.explicit])(given(strategy)(one)))()
        if not self._budget_s:
            settings(every_time, max_examples=examples, derandomize=True)(given(strategy)(one))()
            return
        fresh = settings(every_time, max_examples=_EXAMPLES_A_ROUND, phases=[Phase.generate, Phase.shrink])
        first = time.time_ns()
        rounds = 0
        while time.monotonic() - started < self._budget_s:
            # A round's own seed: hypothesis prints it, and the example, where it finds something.
            seed(first + rounds)(fresh(given(strategy)(_again(one))))()
            rounds += 1


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"


def _again(one: Callable[[Any], None]) -> Callable[[Any], None]:
    # hypothesis keeps its settings on the function it is given, and a seed may be set once.
    def check(value: Any) -> None:
        one(value)

    return check


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    """A target's budget: its part of all, by the number of targets and their ``@pytest.mark.fuzz(share=…)``."""
    report = Report(request.node.name)
    request.config.stash[_REPORT].append(report)
    shares = request.config.stash[_SHARES]
    budget_s = FUZZ_SECONDS * _share(request.node) / shares if FUZZ_SECONDS else 0.0
    yield Fuzz(report, budget_s)
    outcome = getattr(request.node, "fuzz_outcome", None)
    if outcome is not None:
        report.finding = outcome


def _share(item: pytest.Item) -> int:
    marker = item.get_closest_marker("fuzz")
    return int(marker.kwargs.get("share", 1)) if marker else 1


class System:
    """The real services, each a process, on a real nats-server: what they did that they must not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.http_url = ""
        self.nats_url = ""
        self.passwords: dict[str, str] = {}
        """Of each role on the bus: garbage comes from whoever may publish it."""
        self.deaths: list[str] = []
        self._pids: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._stop = threading.Event()
        # The kernel ends the services with the thread that started them.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="system")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        environment = {"COMPILER_CPUS": "1", "KECK_LOG_LEVEL": "error"}
        try:
            async with Embedded(
                directory=self.directory,
                devices=("cpu",),
                settings_env=environment,
                start_timeout_s=300,
                report=self.deaths.append,
            ) as running:
                self.http_url, self.nats_url = running.http_url, running.nats_url
                self.passwords = dict(running._passwords)
                self._pids = {
                    beat.role: beat.pid
                    for role in ("gateway", "compiler", "executor")
                    for beat in running.fleet.live(role)
                }
                self._started.set()
                await asyncio.to_thread(self._stop.wait)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._error = error
            self._started.set()

    def resident_mib(self, role: str) -> int:
        """Memory that a service's process holds now."""
        for line in Path(f"/proc/{self._pids[role]}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        raise AssertionError(f"the {role} has no memory: it is gone")

    def log(self, name: str) -> str:
        """What a service wrote since this was last asked."""
        text = "".join(path.read_text() for path in sorted((self.directory / "logs").glob(f"{name}*.log")))
        read, self._read[name] = self._read.get(name, 0), len(text)
        return text[read:]


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all live targets; a service that dies is a finding of the target that was running."""
    with System(tmp_path_factory.mktemp("system")) as running:
        yield running


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    core.RepresentationPrinter = _PRINTER
    targets = [item for item in items if "fuzz" in getattr(item, "fixturenames", ())]
    config.stash[_SHARES] = max(1, sum(map(_share, targets)))
    if FUZZ_SECONDS:
        for item in targets:
            item.add_marker(pytest.mark.timeout(FUZZ_SECONDS + 600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    if outcome.when == "call" and outcome.failed:
        item.fuzz_outcome = (
            f"{call.excinfo.typename}: {call.excinfo.value}".splitlines()[0][:120]
            if call.excinfo
            else "failed"
        )  # type: ignore[attr-defined]
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash[_REPORT]
    if not FUZZ_SECONDS or not reports:
        return
    write = terminalreporter.write_line
    terminalreporter.section("fuzzing")
    write(f"{'target':<72} {'examples':>9} {'seconds':>8} {'per s':>7}  finding")
    for report in sorted(reports, key=lambda report: report.target):
        per_s = report.examples / report.seconds if report.seconds else 0.0
        write(
            f"{report.target:<72} {report.examples:>9} {report.seconds:>8.0f} {per_s:>7.0f}  {report.finding or '-'}"
        )
    examples = sum(report.examples for report in reports)
    seconds = sum(report.seconds for report in reports)
    found = sum(bool(report.finding) for report in reports)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    write(
        f"{len(reports)} targets, {examples} examples in {seconds:.0f} s, {found} findings; this process took "
        f"at most {peak_mib} MiB, on {os.cpu_count()} cores with Python {sys.version.split()[0]}"
    )
