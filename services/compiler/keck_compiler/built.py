"""What a build gives."""

from __future__ import annotations

from dataclasses import dataclass

from keck_compiler.outcome import Outcome

__all__ = ["BuildTimeout", "Built"]


class BuildTimeout(Exception):
    """The build was not done in time; its whole process tree is gone."""

    def __init__(self, timeout_s: float, log: str) -> None:
        super().__init__(f"the build took longer than {timeout_s:g} s")
        self.log = log


@dataclass(frozen=True, slots=True)
class Built:
    """An outcome, with the shared object where there is one."""

    outcome: Outcome
    module: bytes
    fallback: str = ""
    """Of a fast build: why the stock recipe has to answer."""
