"""What came out of one build, as it is kept for the next request for the same."""

from __future__ import annotations

from typing import Literal

import msgspec

from keck.messages import Diagnostic, KernelFacts

__all__ = ["Outcome"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A built extension, or the compilers' refusal: both are what the same sources give again."""

    artifact: str = ""
    """sha256 of the shared object; empty where the build was refused."""
    size: int = 0
    recipe: Literal["fast", "stock"] = "stock"
    fallback: str = ""
    """Why the fast recipe was tried and did not count; empty where it did, or was not tried."""
    cpu_s: float = 0.0
    """Of all attempts."""
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    diagnostics: list[Diagnostic] = []
    ptxas: list[KernelFacts] = []
    message: str = ""
    """Of a refusal: one line for people."""
    log: str = ""
    """Of a refusal: what the compilers printed."""

    @property
    def built(self) -> bool:
        """Whether there is an artifact."""
        return bool(self.artifact)
