"""Ask a reference what a model is constructed with; in a process of its own.

``python -m keck_compiler.cell.init_inputs`` below a directory with ``reference.py``; writes ``init.json``. Apart
from the candidate's process, which must never see the reference: a computed source could carry it away.
"""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

__all__ = ["main", "plain", "revive"]

REFERENCE = "../reference.py"
INIT = "init.json"
_TUPLE = "__tuple__"


def plain(value: object) -> Any:
    """The value as JSON can hold it.

    Raises:
        TypeError: it is more than numbers, text, None and containers of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [plain(item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) and key != _TUPLE for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} cannot be handed over")


def revive(value: Any) -> Any:
    """The value that :func:`plain` took apart."""
    if isinstance(value, list):
        return [revive(item) for item in value]
    if isinstance(value, dict):
        if _TUPLE in value:
            return tuple(revive(item) for item in value[_TUPLE])
        return {key: revive(item) for key, item in value.items()}
    return value


def main() -> None:
    """Run the reference and write its init inputs."""
    values = runpy.run_path(REFERENCE)["get_init_inputs"]()
    Path(INIT).write_text(json.dumps(plain(list(values))))
    os._exit(0)


if __name__ == "__main__":
    main()
