"""Headers precompiled for flags that are seen again."""

from __future__ import annotations

from pathlib import Path

from keck_cell import ExtensionCall
from keck_compiler.lean.prepare import FLAGS, Flags, is_precompiled
from keck_compiler.lean.toolchain import LeanToolchain
from keck_compiler.precompiling import Precompiling


def _lean(directory: Path) -> LeanToolchain:
    """A toolchain whose compiler only leaves a file, which is all that is asked of it here."""
    compiler = directory / "cc"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\n')
    compiler.chmod(0o755)
    flags = Flags(
        include="/torch/include", compiler=str(compiler), cflags=("-DTORCH_EXTENSION_NAME=x", "-fPIC")
    )
    (directory / FLAGS).write_text(flags.to_json())
    (directory / "headers/torch").mkdir(parents=True)
    return LeanToolchain(directory=directory, words=frozenset())


def _call(*flags: str) -> ExtensionCall:
    return ExtensionCall(kind="load_inline", name="k", cpp_sources=("",), extra_cflags=flags)


async def test_flags_that_come_again_get_a_header_of_their_own(tmp_path: Path) -> None:
    lean, precompiling = _lean(tmp_path), Precompiling()
    for _ in range(2):
        precompiling.note(_call("-O3"), lean)
    await precompiling.settled()
    assert not is_precompiled(tmp_path, ("-O3",))
    precompiling.note(_call("-O3"), lean)
    await precompiling.settled()
    assert is_precompiled(tmp_path, ("-O3",))
    (made,) = (tmp_path / "headers/torch/extension.h.gch").iterdir()
    command = made.read_text().split()
    assert "-O3" in command
    assert "-DTORCH_EXTENSION_NAME=x" not in command


async def test_flags_that_could_do_more_than_compile_get_none(tmp_path: Path) -> None:
    lean, precompiling = _lean(tmp_path), Precompiling()
    for flags in ((), ("-DX=1",), ("-O3", "-I/x"), ("-Wp,-MD,/x",), ("-specs=x",)):
        for _ in range(9):
            precompiling.note(_call(*flags), lean)
    await precompiling.settled()
    await precompiling.close()
    assert not (tmp_path / "headers/torch/extension.h.gch").exists()
