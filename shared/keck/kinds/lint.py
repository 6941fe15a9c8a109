"""A reference against itself: is it a task worth giving, or would an answer that computes nothing pass?"""

from __future__ import annotations

from keck.kinds._kind import Kind

__all__ = ["LINT"]

LINT = Kind(
    name="lint",
    title="a reference against itself",
    candidate_classes=("Model",),
    builds_extensions=False,
)
