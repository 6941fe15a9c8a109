"""The ladder of what a host lets us enforce, and the rung that is in force in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum

__all__ = ["Tier", "set_tier", "tier_in_force", "use_tier"]


class Tier(StrEnum):
    """From the strongest to none; see ``docs/sandbox.md``."""

    A = "A"
    """Namespaces, an own root and an own ``/proc``, Landlock, filtered system calls, limits."""
    A_MINUS = "A-"
    """As A, but the host's ``/proc`` and process numbers: containers that mask ``/proc`` forbid a fresh one."""
    B = "B"
    """No namespaces; a user of its own, Landlock, filtered system calls, limits: a container's root."""
    C = "C"
    """No namespaces, the service's own user; Landlock, a stricter filter, limits: an unprivileged container."""
    X = "X"
    """Limits and a clean start only: nothing that would hold against an attack."""

    @property
    def rank(self) -> int:
        """0 is the strongest."""
        return list(Tier).index(self)

    @property
    def has_namespaces(self) -> bool:
        """Whether cells have a root of their own."""
        return self in (Tier.A, Tier.A_MINUS)


_in_force: list[Tier] = []


def tier_in_force() -> Tier | None:
    """The rung that cells are made on; None as long as nobody has looked for it."""
    return _in_force[-1] if _in_force else None


def set_tier(tier: Tier) -> None:
    """From now on cells are made on this rung."""
    _in_force[:] = [tier]


@contextlib.contextmanager
def use_tier(tier: Tier) -> Iterator[None]:
    """Make cells on this rung for the length of a block: for probing the ladder, and for tests."""
    _in_force.append(tier)
    try:
        yield
    finally:
        _in_force.pop()
