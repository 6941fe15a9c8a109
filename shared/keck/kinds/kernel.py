"""A kernel, as CUDA or C++ through ``load_inline``, Triton, or plain PyTorch, against a PyTorch module."""

from __future__ import annotations

from keck.kinds._kind import Kind

__all__ = ["KERNEL"]

KERNEL = Kind(
    name="kernel",
    title="a kernel against its PyTorch baseline",
    candidate_classes=("ModelNew",),
    builds_extensions=True,
    route="/compute_score",
    candidate_field="cuda_code",
    reference_field="torch_code",
    missing_candidate="failed: cannot find cuda code block: the form field `cuda_code` is missing",
)
