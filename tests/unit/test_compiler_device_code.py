"""Slicing device code out of shared objects, whole and hostile ones."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keck_compiler.device_code import kernel_code


def _object(directory: Path, text: str, how: str = "-shared") -> bytes:
    (directory / "a.c").write_text(text)
    subprocess.run(["cc", how, "-o", str(directory / "a.out"), str(directory / "a.c")], check=True)
    return (directory / "a.out").read_bytes()


def _fatbin(*images: bytes) -> bytes:
    entries = b"".join(struct.pack("<HHIQ48x", 2, 0x101, 64, len(image)) + image for image in images)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def _module(directory: Path, fatbin: bytes) -> bytes:
    values = ", ".join(map(str, fatbin))
    return _object(
        directory,
        f'const unsigned char f[] __attribute__((section(".nv_fatbin"), aligned(8))) = {{{values}}};',
    )


def test_it_is_the_kernels_code_and_no_unused_variables(tmp_path: Path) -> None:
    kernel = 'const char k[] __attribute__((section(".text.k"))) = "code"; '
    plain, unused = (_object(tmp_path, kernel + more, "-c") for more in ("", "char in_place;"))
    code = kernel_code(_module(tmp_path, _fatbin(plain)))
    assert (".text.k", b"code\0") in code
    assert kernel_code(_module(tmp_path, _fatbin(unused))) == code
    assert len(kernel_code(_module(tmp_path, _fatbin(plain, plain)))) == 2 * len(code)
    assert kernel_code(_object(tmp_path, "int x;")) == []


def test_images_in_another_form_are_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ELF"):
        kernel_code(_module(tmp_path, _fatbin(b"compressed" * 8)))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), b"MZ" + bytes(100)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF|bounds"):
        kernel_code(data)


@given(st.binary(min_size=58, max_size=600))
def test_no_bytes_do_more_than_that(rest: bytes) -> None:
    with contextlib.suppress(ValueError):
        kernel_code(b"\x7fELF\x02\x01" + rest)
