"""Starting a cell: what fails there is this machine's failure, not the candidate's."""

from __future__ import annotations

from collections.abc import Sequence

from keck.errors import Retry
from keck_sandbox import Policy, Process, spawn

__all__ = ["spawn_cell"]


async def spawn_cell(policy: Policy, argv: Sequence[str]) -> Process:
    """:func:`keck_sandbox.spawn`.

    Raises:
        Retry: no cell can be made here; another compiler may.
    """
    try:
        return await spawn(policy, argv)
    except (OSError, TimeoutError) as error:
        raise Retry(f"no cell for `{policy.name}`: {error}", delay_s=5.0, failure_kind="sandbox") from error
