"""Attacks on whatever is outside, run from inside a cell: the service's self-test, and the tests'.

``python -I -S probes/__main__.py FACTS``, where FACTS is JSON that names what may be attacked
(:mod:`keck_sandbox.victim` makes it) and, optionally, ``names`` of probes, or ``heavy``: true for those as well that
take time, space or processes. Prints one JSON object a line: ``name``, ``outcome`` (``blocked``, ``open``,
``unsupported``: there is nothing of the kind to attack here; ``broken``: the probe itself failed) and ``detail``.

Every probe is harmless where it succeeds: it writes nothing, or what is there already, or undoes it at once. Each runs
in a process and a directory of its own, which it need not survive. Its word is no evidence where it says that it was
stopped: the victims say what happened to them. Numbers are those of the design paper on the sandbox, section 4.
"""

from __future__ import annotations

from keck_sandbox.inside.probes import files, network, privileges, processes, resources
from keck_sandbox.inside.probes.expected import MAY_BE_OPEN
from keck_sandbox.inside.probes.registry import PROBES, Probe, main

__all__ = [
    "MAY_BE_OPEN",
    "PROBES",
    "Probe",
    "files",
    "main",
    "network",
    "privileges",
    "processes",
    "resources",
]
