"""Whole sets of generations: found by KernelBench's naming, judged, counted and reported."""

from __future__ import annotations

from keck.evaluation.entries import Entry
from keck.evaluation.manifest import entries_in_manifest
from keck.evaluation.naming import Found, entries_in
from keck.evaluation.results import Result, Results
from keck.evaluation.scores import Summary, summaries_of

__all__ = [
    "Entry",
    "Found",
    "Result",
    "Results",
    "Summary",
    "entries_in",
    "entries_in_manifest",
    "summaries_of",
]
