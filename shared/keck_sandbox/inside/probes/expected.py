"""What may get through on which tier, and why; everything that is not named here is blocked on every tier."""

from __future__ import annotations

__all__ = ["MAY_BE_OPEN"]

_STAT = (
    "Landlock does not govern what only looks at a file's name and attributes: a root of one's own hides it"
)
_PROCESSES = "the same for the directories of processes, where the host's are to be seen"
_LOCK = "any file that two cells can read can be locked by one and seen by the other; denied, compilers would fail"
_SPACE = "without a file system of its own, only the size of each file is limited"

MAY_BE_OPEN: dict[str, dict[str, str]] = {
    "stat_outside": {"B": _STAT, "C": _STAT},
    "enter_outside": {"B": _STAT, "C": _STAT},
    "watch_outside": {"B": _STAT, "C": _STAT},
    "stat_process": {"A-": _PROCESSES, "B": _PROCESSES, "C": _PROCESSES},
    "lock_shared_file": dict.fromkeys(("A", "A-", "B", "C"), _LOCK),
    "fill_with_one_file": {"B": _SPACE, "C": _SPACE},
    "fill_with_many_files": {"B": _SPACE, "C": _SPACE},
    "fill_with_empty_files": {"B": _SPACE, "C": _SPACE},
}
"""Name of a probe, then the tiers on which it may be open, each with the reason."""
