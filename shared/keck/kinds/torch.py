"""One PyTorch implementation against another (``check_torch``): nothing to build."""

from __future__ import annotations

from keck.kinds._kind import Kind

__all__ = ["TORCH"]

TORCH = Kind(
    name="torch",
    title="a PyTorch module against another",
    # The original's callers send `Model` on both sides; rewritten modules are often called `ModelNew`.
    candidate_classes=("ModelNew", "Model"),
    builds_extensions=False,
    route="/check_torch",
    candidate_field="to_check_torch",
    reference_field="gt_torch",
    missing_candidate="failed: cannot find torch code block: the form field `to_check_torch` is missing",
)
