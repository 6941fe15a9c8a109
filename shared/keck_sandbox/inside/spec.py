"""What a cell is made of on this host: a policy rendered to one tier, as it crosses into the new process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Files", "Spec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a cell sees of the file system, as absolute paths of the host."""

    read: tuple[str, ...]
    """Trees that are there, and cannot be written."""
    devices: tuple[str, ...]
    directory: str
    """The cell's own, readable."""
    work: str
    """The one place below it that can be written, and where the program starts."""
    places: tuple[str, ...]
    """Directories made below it."""
    work_bytes: int
    work_inodes: int
    shm_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything :func:`keck_sandbox.inside.enter.enter` does."""

    namespaces: int
    """``CLONE_NEW*`` flags; 0: none."""
    files: Files
    fresh_proc: bool
    """A ``/proc`` of the new pid namespace, else the host's."""
    uid: int | None
    """User and group to become; None: stay."""
    confined: bool
    """Give up capabilities and new privileges; False only for a zygote, which runs no foreign code."""
    landlock: bool
    seccomp: str
    """The filter's instructions in hexadecimal; empty: none."""
    lock_signals: bool
    dumpable: bool
    limits: Mapping[str, int] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Spec:
        """From our own text: not validated."""
        content = json.loads(text)
        files: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.pop("files").items()
        }
        return cls(files=Files(**files), **content)
