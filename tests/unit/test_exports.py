"""What `import keck` gives, and what it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import keck

HEAVY = ["torch", "numpy", "litestar", "uvicorn", "nats", "httpx", "typer", "rich"]


@pytest.mark.parametrize(
    "module", ["keck", "keck.adapters", "keck.embedded", "keck.evaluation", "keck.kinds", "keck.cli"]
)
def test_all_is_sorted_and_everything_in_it_exists(module: str) -> None:
    package = importlib.import_module(module)
    assert list(package.__all__) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_nothing_public_in_the_package_is_left_out_of_all() -> None:
    public = {
        name
        for name, value in vars(keck).items()
        if isinstance(value, type) and value.__module__.startswith("keck") and not name.startswith("_")
    }
    assert public <= set(keck.__all__)


def test_importing_keck_loads_neither_a_framework_nor_a_network_library() -> None:
    code = f"import sys, keck; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_command_line_and_the_transports_need_no_extra() -> None:
    blocked = ["torch", "numpy", "litestar", "uvicorn", "pynvml", "cuda"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None: importing it raises ImportError
        "import keck.cli, keck._transport._nats, keck._transport._http\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
