"""The device code in a shared object, to compare builds by."""

from __future__ import annotations

import struct

__all__ = ["device_code"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DEVICE = (b".nv_fatbin", b"__nv_relfatbin")


def device_code(module: bytes) -> bytes:
    """The sections with device code of an ELF file of 64 bits, joined; empty where it has none.

    The file may be hostile: it is only sliced.

    Raises:
        ValueError: it is no such file.
    """
    if module[:6] != b"\x7fELF\x02\x01" or len(module) < _HEADER.size:
        raise ValueError("not a little-endian ELF file of 64 bits")
    header = _HEADER.unpack_from(module)
    table, entry_size, count, names_at = header[6], header[11], header[12], header[13]
    if entry_size != _SECTION.size or names_at >= count or table + entry_size * count > len(module):
        raise ValueError("its section table is out of bounds")
    sections = [_SECTION.unpack_from(module, table + entry_size * at) for at in range(count)]
    names = _content(module, sections[names_at])
    return b"".join(_content(module, section) for section in sections if _name(names, section[0]) in _DEVICE)


def _content(module: bytes, section: tuple[int, ...]) -> bytes:
    return module[section[4] : section[4] + section[5]]


def _name(names: bytes, at: int) -> bytes:
    return names[at : max(at, names.find(b"\0", at))]
