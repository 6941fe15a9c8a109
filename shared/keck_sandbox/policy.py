"""What a contained process may have: one frozen description, whatever mechanism enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything a process started by :func:`keck_sandbox.spawn` is given; nothing else reaches it."""

    name: str
    """For logs: ``record``, ``build``, ``candidate``, ``reference``, ``judge``."""
    directory: Path
    """Private working directory: HOME, TMPDIR and every cache lie in it. Must exist."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment besides PATH, LANG and the directory's variables. The service's own is not inherited."""
    readable: tuple[Path, ...] = ()
    """Paths the process needs to read besides the system's and the interpreter's."""
    devices: tuple[Path, ...] = ()
    """Device nodes it needs."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors it inherits, under the same numbers; every other one is closed."""
    address_space_bytes: int | None = None
    """Limit of virtual memory. Unusable where CUDA is: it reserves more than the machine has."""
    data_bytes: int | None = None
    """Limit of private writable memory of one process."""
    file_bytes: int | None = 1 << 30
    """Largest file it may write."""
    processes: int | None = None
    """Processes and threads of the user; meaningless for root (issue 3 gives cells users of their own)."""
    open_files: int = 1024
    cpu_s: int | None = None
    """CPU seconds of one process."""
    output_bytes: int = 64 * 1024
    """How much of stdout and stderr, joined, is kept: half from the head, half from the tail."""
