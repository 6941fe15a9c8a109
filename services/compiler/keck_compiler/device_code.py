"""The machine code of the kernels in a shared object, to compare builds by.

Not the whole of a fat binary: headers that a source includes and does not use leave variables of their own in it, a
byte each (NVIDIA's ``cuda::std`` has some thirty), which no kernel refers to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["kernel_code"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_ELF = b"\x7fELF\x02\x01"
_FATBIN = struct.Struct("<IHHQ")
_FATBIN_MAGIC = 0xBA55ED50
_ENTRY = struct.Struct("<HHIQ")
_CUBIN = 2
_DEVICE = (b".nv_fatbin", b"__nv_relfatbin")
_OF_KERNELS = (b".text.", b".nv.constant0.", b".nv.shared.", b".nv.local.")


class _Section(NamedTuple):
    name: bytes
    content: bytes


def kernel_code(module: bytes) -> list[tuple[str, bytes]]:
    """Sections of code, parameters and memory of every kernel, by name, for one architecture after the other.

    The file may be hostile: it is only sliced.

    Raises:
        ValueError: it is no 64-bit ELF file, or holds device code in a form that is not known, such as compressed.
    """
    found: list[tuple[str, bytes]] = []
    for section in _sections(module):
        if section.name in _DEVICE:
            for image in _images(section.content):
                kernels = [item for item in _sections(image) if item.name.startswith(_OF_KERNELS)]
                found += sorted((item.name.decode("utf-8", "replace"), item.content) for item in kernels)
    return found


def _images(fatbins: bytes) -> Iterator[bytes]:
    """The cubins of one fat binary after the other."""
    at = 0
    while at + _FATBIN.size <= len(fatbins):
        magic, _, header_bytes, size = _FATBIN.unpack_from(fatbins, at)
        if magic != _FATBIN_MAGIC:
            at += 8  # they are aligned
            continue
        entry, end = at + header_bytes, min(len(fatbins), at + header_bytes + size)
        while entry + _ENTRY.size <= end:
            kind, _, entry_header, payload = _ENTRY.unpack_from(fatbins, entry)
            if entry_header < _ENTRY.size:
                raise ValueError("not a fat binary as nvcc makes them")
            image = fatbins[entry + entry_header : entry + entry_header + payload]
            if kind == _CUBIN:
                yield image
            entry += entry_header + payload
        at = max(end, at + 8)


def _sections(data: bytes) -> Iterator[_Section]:
    if data[: len(_ELF)] != _ELF or len(data) < _HEADER.size:
        raise ValueError("not a little-endian ELF file of 64 bits")
    header = _HEADER.unpack_from(data)
    table, entry_size, count, names_at = header[6], header[11], header[12], header[13]
    if entry_size != _SECTION.size or names_at >= count or table + entry_size * count > len(data):
        raise ValueError("its section table is out of bounds")
    sections = [_SECTION.unpack_from(data, table + entry_size * at) for at in range(count)]
    names = _content(data, sections[names_at])
    for section in sections:
        yield _Section(_name(names, section[0]), _content(data, section))


def _content(data: bytes, section: tuple[int, ...]) -> bytes:
    no_bits = 8  # memory that takes no room in the file: its size is what counts
    return str(section[5]).encode() if section[1] == no_bits else data[section[4] : section[4] + section[5]]


def _name(names: bytes, at: int) -> bytes:
    return names[at : max(at, names.find(b"\0", at))]
