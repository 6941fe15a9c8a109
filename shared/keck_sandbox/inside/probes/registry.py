"""What a probe is, the list of all, and running them one by one."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "PROBES",
    "Attack",
    "Facts",
    "Held",
    "Probe",
    "Unsupported",
    "main",
    "probe",
    "require",
    "victim",
    "victim_proc",
]

Facts = dict[str, Any]
Attack = Callable[[Facts], object]
_ALARM_S, _HEAVY_ALARM_S = 4, 30
# Signals by which a filter or a limit stops a program.
_STOPS = {signal.SIGSYS, signal.SIGKILL, signal.SIGXFSZ, signal.SIGXCPU}
_DETAIL_BYTES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One attack: returns where it succeeds (perhaps with a detail), raises OSError where it is held off."""

    name: str
    numbers: tuple[int, ...]
    """In the design paper's list."""
    what: str
    """The property it attacks."""
    sentence: str
    heavy: bool
    """Takes time, space or processes: runs only when asked for."""
    outside: bool
    """Succeeds without knowing it: only what the victims see counts."""
    attack: Attack


class Unsupported(Exception):
    """There is nothing of this kind here, in a cell or not."""


class Held(OSError):
    """Nothing was refused, and yet it had no effect."""


PROBES: dict[str, Probe] = {}


def probe(what: str, *numbers: int, heavy: bool = False, outside: bool = False) -> Callable[[Attack], Attack]:
    """Put an attack on the list, under its name, its docstring as what it tries."""

    def registered(attack: Attack) -> Attack:
        name = attack.__name__
        PROBES[name] = Probe(
            name=name, numbers=numbers, what=what, sentence=attack.__doc__ or "", heavy=heavy, outside=outside, attack=attack
        )  # fmt: skip
        return attack

    return registered


def require(condition: object, why: str = "no effect") -> None:
    """The attack did not get what it wanted.

    Raises:
        Held: unless `condition`.
    """
    if not condition:
        raise Held(0, why)


def victim(facts: Facts, who: str = "pid") -> int:
    """Number of a process outside (``pid``: a victim, ``service``), where numbers mean the same here as there.

    Raises:
        ProcessLookupError: in this namespace no number means a process of that one.
    """
    try:
        here = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        here = facts["pid_namespace"]  # not to be told: then by the number it is
    if here != facts["pid_namespace"]:
        raise ProcessLookupError("another namespace of processes")
    return int(facts[who])


def victim_proc(facts: Facts, who: str = "pid") -> str:
    """Its directory in ``/proc``; whether it can be used is for the attack to find out.

    Raises:
        ProcessLookupError: the process of that number is another.
    """
    where = f"/proc/{facts[who]}"
    try:
        with open(f"{where}/stat", "rb") as file:
            started = int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return where
    if started != facts[f"{who}_started"]:
        raise ProcessLookupError("another process")
    return where


def main(text: str) -> None:
    """Try what the facts ask for; a line for each."""
    facts = json.loads(text)
    facts["work"] = os.getcwd()
    for one in PROBES.values():
        if one.name in facts["names"] if "names" in facts else facts.get("heavy") or not one.heavy:
            outcome, detail = _tried(one, facts)
            line = json.dumps({"name": one.name, "outcome": outcome, "detail": detail[:_DETAIL_BYTES]})
            os.write(1, f"{line}\n".encode())


def _tried(one: Probe, facts: Facts) -> tuple[str, str]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _attempt(one, facts | {"pipe": write})
    os.close(write)
    told = os.read(read, 4096).decode("utf-8", "replace")  # one write, or the end
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if told:
        outcome, _, detail = told.partition(" ")
        return outcome, detail
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        return "blocked" if number in _STOPS else "broken", number.name
    return "broken", f"status {status}"


def _attempt(one: Probe, facts: Facts) -> None:
    signal.alarm(_HEAVY_ALARM_S if one.heavy else _ALARM_S)
    try:
        os.mkdir(one.name)
        os.chdir(one.name)
    except OSError:  # full, or not to be written: the attack will notice
        pass
    try:
        told = f"open {one.attack(facts) or ''}"
    except Unsupported as error:
        told = f"unsupported {error}"
    except OSError as error:
        told = f"blocked {error.strerror or error}"
    except BaseException as error:  # noqa: BLE001 - a probe that is wrong must be told from one that was refused
        sys.excepthook(*sys.exc_info())
        told = f"broken {type(error).__name__}: {error}"
    os.write(facts["pipe"], told.encode("utf-8", "replace")[:4000])
    os._exit(0)
