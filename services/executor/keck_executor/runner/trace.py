"""What runs while user code runs: operators, kernels, and calls into the candidate's own extensions."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any, TypeVar

import torch
from torch._C._autograd import DeviceType

from keck_executor.runner.trace_lines import TraceLine

__all__ = ["profiled", "traced"]

_T = TypeVar("_T")
_MAX_EVENTS = 200_000


@contextlib.contextmanager
def profiled(device: torch.device) -> Iterator[Any]:
    """torch's profiler, with the device's own activities where there are any."""
    # Not torch.profiler.profile: it looks for torch._inductor, which imports all of it, for seconds.
    device_kind = "cuda" if device.type == "cuda" else None
    with torch.autograd.profiler.profile(use_device=device_kind, use_kineto=True) as profiler:
        yield profiler


def traced(
    work: Callable[[], _T], device: torch.device, extensions: Sequence[ModuleType]
) -> tuple[_T, tuple[TraceLine, ...]]:
    """Run `work` once and say what it ran; the device is idle afterwards."""
    calls = _Calls(extensions)
    with profiled(device) as profiler:
        with calls:
            result = work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    events = profiler.kineto_results.events()[:_MAX_EVENTS]
    return result, (*_operators(events), *_kernels(events), *_extension_calls(calls.spans, events))


class _Calls:
    """Notes calls of the functions in extension modules, by the interpreter's own notice of calls into C."""

    def __init__(self, extensions: Sequence[ModuleType]) -> None:
        self.spans: list[tuple[str, int, int]] = []
        self._names = {
            id(value): f"{module.__name__}.{name}"
            for module in extensions
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("__")
        }
        self._open: dict[int, list[tuple[int, str, int]]] = {}

    def __enter__(self) -> None:
        if self._names:
            threading.setprofile(self._notice)  # of threads that begin from now on
            sys.setprofile(self._notice)

    def __exit__(self, *_: object) -> None:
        if self._names:
            sys.setprofile(None)
            threading.setprofile(None)

    def _notice(self, _: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            name = self._names.get(id(function))
            if name is not None:
                begun = id(function), name, time.time_ns()
                self._open.setdefault(threading.get_ident(), []).append(begun)
        elif event in ("c_return", "c_exception") and id(function) in self._names:
            open_here = self._open.get(threading.get_ident())
            if open_here and open_here[-1][0] == id(function):
                name, began = open_here.pop()[1:]
                if len(self.spans) < _MAX_EVENTS:
                    self.spans.append((name, began, time.time_ns()))


def _operators(events: Sequence[Any]) -> Iterator[TraceLine]:
    """Operators by name, each with the time that none within it took."""
    found: dict[str, tuple[int, int]] = {}
    for event, own_ns in _with_own_time([event for event in events if _is_operator(event)]):
        count, total = found.get(event.name(), (0, 0))
        found[event.name()] = count + 1, total + own_ns
    for name, (count, total) in found.items():
        yield TraceLine("O", count, total, name)


def _is_operator(event: Any) -> bool:
    # What a program annotates is its own word, except where torch marks what it compiled.
    marked = event.name().startswith("Torch-Compiled Region")
    on_cpu = event.device_type() == DeviceType.CPU
    return on_cpu and (marked or ("::" in event.name() and not event.is_user_annotation()))


def _with_own_time(events: list[Any]) -> Iterator[tuple[Any, int]]:
    """Each event with its time minus that of the events directly within it, thread by thread."""
    by_thread: dict[int, list[Any]] = {}
    for event in events:
        by_thread.setdefault(event.start_thread_id(), []).append(event)
    for of_thread in by_thread.values():
        of_thread.sort(key=lambda event: (event.start_ns(), -event.duration_ns()))
        inner = [0] * len(of_thread)
        stack: list[int] = []
        for index, event in enumerate(of_thread):
            while stack and of_thread[stack[-1]].end_ns() <= event.start_ns():
                stack.pop()
            if stack:
                inner[stack[-1]] += event.duration_ns()
            stack.append(index)
        yield from (
            (event, max(0, event.duration_ns() - within))
            for event, within in zip(of_thread, inner, strict=True)
        )


def _kernels(events: Sequence[Any]) -> Iterator[TraceLine]:
    """Kernels by name and by the operator that launched them, which the profiler knows by a number they share."""
    operators = {event.correlation_id(): event.name() for event in events if _is_operator(event)}
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for event in events:
        if event.device_type() != DeviceType.CUDA or event.is_user_annotation():
            continue
        key = event.name(), operators.get(event.linked_correlation_id(), "")
        count, total = found.get(key, (0, 0))
        found[key] = count + 1, total + event.duration_ns()
    for (name, launched_by), (count, total) in found.items():
        yield TraceLine("K", count, total, name, launched_by)


def _extension_calls(spans: Sequence[tuple[str, int, int]], events: Sequence[Any]) -> Iterator[TraceLine]:
    """Calls of the candidate's own functions, with the time that no operator within them took."""
    operators = sorted((event.start_ns(), event.end_ns()) for event in events if _is_operator(event))
    starts = [start for start, _ in operators]
    found: dict[str, tuple[int, int]] = {}
    for name, began, ended in spans:
        within, reached = 0, began
        for start, end in operators[bisect_left(starts, began) : bisect_left(starts, ended)]:
            within += max(0, min(end, ended) - max(start, reached))
            reached = max(reached, end)
        count, total = found.get(name, (0, 0))
        found[name] = count + 1, total + max(0, ended - began - within)
    for name, (count, total) in found.items():
        yield TraceLine("C", count, total, name)
