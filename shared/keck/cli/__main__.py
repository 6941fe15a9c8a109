"""``python -m keck.cli``, where no console script is installed."""

from __future__ import annotations

from keck.cli import main

if __name__ == "__main__":
    main()
