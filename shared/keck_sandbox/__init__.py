"""Containment of what cannot be trusted: every build and every runner is started here, and nowhere else.

:func:`spawn` takes a :class:`Policy` and an argument vector, and makes a cell of them on the :class:`Tier` in force:
the strongest rung of the ladder that this host lets us climb, found by trying. A :class:`ForkServer` is a process
that starts further cells by forking, for programs whose imports take longer than their work.

Names are looked up on first use: what runs inside a cell imports :mod:`keck_sandbox.inside`, and must not drag the
service's half into the candidate's process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keck_sandbox.fork_server import ForkServer
    from keck_sandbox.freezing import Stop, freeze, thaw
    from keck_sandbox.policy import Policy
    from keck_sandbox.process import Exit, Process, spawn
    from keck_sandbox.reap import become_subreaper, kill_strays
    from keck_sandbox.tier import Tier, set_tier, tier_in_force, use_tier

_WHERE = {
    "Exit": "process",
    "ForkServer": "fork_server",
    "Policy": "policy",
    "Process": "process",
    "Stop": "freezing",
    "Tier": "tier",
    "become_subreaper": "reap",
    "freeze": "freezing",
    "kill_strays": "reap",
    "set_tier": "tier",
    "spawn": "process",
    "thaw": "freezing",
    "tier_in_force": "tier",
    "use_tier": "tier",
}

__all__ = [
    "Exit",
    "ForkServer",
    "Policy",
    "Process",
    "Stop",
    "Tier",
    "become_subreaper",
    "freeze",
    "kill_strays",
    "set_tier",
    "spawn",
    "thaw",
    "tier_in_force",
    "use_tier",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
