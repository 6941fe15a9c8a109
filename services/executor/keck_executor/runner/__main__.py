"""``python -m keck_executor.runner FD cpu|cuda``: the contained side of a check, started cold.

Everything slow that needs no user code happens before the first command: imports, the device's context.
"""

from __future__ import annotations

import sys

from keck_executor.runner.cell import run

__all__ = ["main"]


def main() -> None:
    """Warm up, then serve until the judge hangs up."""
    run(sys.argv[2:], [int(sys.argv[1])])


if __name__ == "__main__":
    main()
