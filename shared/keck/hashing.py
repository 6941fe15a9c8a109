"""Canonical hashes: what two machines must agree on."""

from __future__ import annotations

import hashlib

__all__ = ["digest_of", "sha256_hex"]


def sha256_hex(data: bytes | str) -> str:
    """sha256 of bytes, or of a text's UTF-8 form, in hex."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def digest_of(*parts: str) -> str:
    """sha256 over parts that cannot run into each other: each is preceded by its length."""
    hasher = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(8, "little"))
        hasher.update(raw)
    return hasher.hexdigest()
