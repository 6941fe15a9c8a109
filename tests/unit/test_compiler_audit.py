"""Fast builds compared with stock ones in the background."""

from __future__ import annotations

import pytest

from keck.errors import Retry
from keck.messages import Diagnostic
from keck_cell import ExtensionCall
from keck_compiler.audit import Audit, difference
from keck_compiler.built import Built
from keck_compiler.outcome import Outcome

_CALL = ExtensionCall(kind="load_inline", name="k", cpp_sources=("",))
_ELF = b"\x7fELF\x02\x01" + bytes(34) + (64).to_bytes(8, "little") + bytes(10) + (64).to_bytes(2, "little")
_MODULE = _ELF + (1).to_bytes(2, "little") + (0).to_bytes(2, "little") + bytes(64)
"""An object with one section and no device code."""


def _built(module: bytes = _MODULE, *, error: str = "", line: int = 1) -> Built:
    diagnostics = (
        [Diagnostic(file="cuda.cu", line=line, column=0, severity="error", text=error)] if error else []
    )
    return Built(Outcome(message=error, diagnostics=diagnostics), b"" if error else module)


def test_what_counts_is_success_device_code_and_the_first_error() -> None:
    assert difference(_built(), _built(_MODULE + b"more")) == ""
    assert difference(_built(error="no"), _built(error="no")) == ""
    assert "refuses it" in difference(_built(), _built(error="no"))
    assert "first error" in difference(_built(error="no"), _built(error="no", line=2))
    assert difference(_built(b"not to be read"), _built()) == ""


async def test_a_share_is_built_again_and_a_difference_is_told() -> None:
    asked: list[str] = []
    told: list[str] = []
    draws = iter((0.5, 0.05, 0.2))

    async def stock(call: ExtensionCall, arch: str) -> Built:
        asked.append(arch)
        return _built(error="no")

    audit = Audit(0.1, stock, told.append, draw=lambda: next(draws))
    for arch in ("8.0", "9.0", "10.0"):
        audit.consider(_CALL, arch, _built())
    await audit.settled()
    assert asked == ["9.0"]
    (difference_told,) = told
    assert "`k`" in difference_told


async def test_a_stock_build_that_could_not_be_done_says_nothing() -> None:
    async def stock(call: ExtensionCall, arch: str) -> Built:
        raise Retry("no disk")

    audit = Audit(1.0, stock, pytest.fail)
    audit.consider(_CALL, "9.0", _built())
    await audit.settled()
    await audit.close()
