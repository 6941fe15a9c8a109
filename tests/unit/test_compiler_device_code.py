"""Slicing device code out of shared objects, whole and hostile ones."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keck_compiler.device_code import device_code


def _object(directory: Path, text: str) -> bytes:
    (directory / "a.c").write_text(text)
    subprocess.run(["cc", "-shared", "-o", str(directory / "a.so"), str(directory / "a.c")], check=True)
    return (directory / "a.so").read_bytes()


def test_it_is_the_section_of_the_fat_binary(tmp_path: Path) -> None:
    text = 'const char code[] __attribute__((section(".nv_fatbin"))) = "device";'
    assert device_code(_object(tmp_path, text)) == b"device\0"
    assert device_code(_object(tmp_path, "int x;")) == b""


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), b"MZ" + bytes(100)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF|bounds"):
        device_code(data)


@given(st.binary(min_size=58, max_size=600))
def test_no_bytes_do_more_than_that(rest: bytes) -> None:
    with contextlib.suppress(ValueError):
        device_code(b"\x7fELF\x02\x01" + rest)
