"""``python -m keck_compiler.cell.self_test`` below a directory with the probe's module: load it and try its binding."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from keck_compiler.lean.probes import BINDING_PROBE, BINDING_SCRIPT

__all__ = ["main"]


def main() -> None:
    """Raises whatever is wrong."""
    spec = importlib.util.spec_from_file_location(
        BINDING_PROBE.name, Path("..", f"{BINDING_PROBE.name}.so").resolve()
    )
    assert spec is not None
    assert spec.loader is not None
    import torch  # noqa: F401, PLC0415 - the module needs its libraries loaded

    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names: dict[str, Any] = {}
    exec(BINDING_SCRIPT, names)  # noqa: S102 - our own
    names["check"](module)


if __name__ == "__main__":
    main()
