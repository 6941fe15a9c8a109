"""What a contained process may have: one frozen description, whatever mechanism enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["WORK", "Policy", "Trust"]

WORK = "cell"
"""Name, below a policy's directory, of the one place a cell can write."""

Trust = Literal["none", "judge", "zygote"]
"""``none``: foreign code runs in it. ``judge``: ours alone, handling foreign data: another user, another root, but it
sees processes. ``zygote``: ours alone, and it makes cells: keeps whatever rights the service has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything a process started by :func:`keck_sandbox.spawn` is given; nothing else reaches it."""

    name: str
    """For logs: ``reader``, ``record``, ``build``, ``runner``, ``judge``."""
    directory: Path
    """Its own directory, which the service fills and the process can read; made if it is not there. Below it lies
    ``cell``, where the process starts: the only place it can write, with HOME, TMPDIR and every cache."""
    trust: Trust = "none"
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment besides PATH, LANG and the directory's variables. The service's own is not inherited."""
    readable: tuple[Path, ...] = ()
    """Paths the process needs to read besides the system's and the interpreter's."""
    devices: tuple[Path, ...] = ()
    """Device nodes it needs. With any, it is a cell for a GPU: sockets as the driver opens them are allowed."""
    shares_user: bool = False
    """Run as the user that all such cells of this service run as: CUDA shares memory only within one user."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors it inherits, under the same numbers; every other one is closed."""
    memory_bytes: int | None = None
    """Resident memory of the whole cell; above it the cell is killed (looked at every 50 ms)."""
    address_space_bytes: int | None = None
    """Limit of virtual memory of one process. Unusable where CUDA is: it reserves more than the machine has."""
    data_bytes: int | None = None
    """Limit of private writable memory of one process."""
    work_bytes: int = 2 << 30
    """Size of ``cell``, where the tier can limit it."""
    work_inodes: int = 50_000
    shm_bytes: int = 1 << 30
    """Size of ``/dev/shm``."""
    file_bytes: int | None = 1 << 30
    """Largest file it may write."""
    processes: int | None = 4096
    """Processes and threads of the cell's user."""
    open_files: int = 1024
    cpu_s: int | None = None
    """CPU seconds of one process."""
    output_bytes: int = 64 * 1024
    """How much of stdout and stderr, joined, is kept: half from the head, half from the tail."""

    @property
    def work(self) -> Path:
        """The place the cell can write; what it left there is read through :attr:`Process.work_fd`."""
        return self.directory / WORK
