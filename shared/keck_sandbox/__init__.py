"""Containment of what cannot be trusted: every build and every runner is started here, and nowhere else.

:func:`spawn` takes a :class:`Policy` and an argument vector. Today a cell is a session of its own with a clean
environment, resource limits, no new privileges, no inherited descriptors and a capped log; the policy already
names what namespaces, Landlock and seccomp will enforce. A :class:`ForkServer` is a spawned process that starts
further cells by forking, for programs whose imports take longer than their work.
"""

from __future__ import annotations

from keck_sandbox.fork_server import ForkServer
from keck_sandbox.freeze import freeze, thaw
from keck_sandbox.policy import Policy
from keck_sandbox.process import Exit, Process, spawn
from keck_sandbox.reap import become_subreaper, kill_strays

__all__ = [
    "Exit",
    "ForkServer",
    "Policy",
    "Process",
    "become_subreaper",
    "freeze",
    "kill_strays",
    "spawn",
    "thaw",
]
