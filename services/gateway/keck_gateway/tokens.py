"""Bearer tokens: which there are, what role each has, and what role a request needs.

Only digests are kept, so that neither a traceback nor a dump of this process's settings shows a token of the file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

from keck.errors import SettingError
from keck.kinds import kinds_with_routes
from keck.settings import Settings

__all__ = ["Role", "Tokens", "role_needed"]

_LEAST_LETTERS: Final = 16
_MOST_BYTES: Final = 1 << 20
_HASHED: Final = "sha256:"
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SUBMITTED_TO: Final = (
    "/v1/checks",
    "/v1/batches",
    "/v1/replays",
    "/trainers",
    "/seed_session",
    "/verify",
    *(kind.route for kind in kinds_with_routes()),
)


class Role(IntEnum):
    """What a token is good for; each role includes those before it."""

    OBSERVE = 1
    """Read verdicts, the state of checks, executors."""
    SUBMIT = 2
    """Submit and cancel checks as well: run code."""
    ADMIN = 3
    """Everything."""

    @property
    def label(self) -> str:
        """The word for it in a file of tokens and in answers."""
        return self.name.lower()


class _Known(NamedTuple):
    digest: bytes
    role: Role


class Tokens:
    """The tokens that one gateway takes."""

    def __init__(self, known: list[_Known]) -> None:
        self._known = tuple(known)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """``KECK_TOKEN``, which may do everything, and those of ``KECK_TOKENS_FILE``.

        Raises:
            SettingError: the file cannot be used; the message names the line and never shows a token.
        """
        known = [_Known(_digest(settings.token), Role.ADMIN)] if settings.token else []
        if settings.tokens_file:
            known += _read(Path(settings.tokens_file).expanduser())
        return cls(known)

    def __bool__(self) -> bool:
        """Whether a token is asked for at all."""
        return bool(self._known)

    def role_of(self, given: str) -> Role | None:
        """The role of a token, or None if it is none; takes as long whichever it is, and if it is none."""
        digest = _digest(given)
        roles = [known.role for known in self._known if hmac.compare_digest(known.digest, digest)]
        return max(roles, default=None)


def role_needed(method: str, path: str) -> Role:
    """The role that a request needs. A route that nobody thought of here needs the highest."""
    if method in _READS:
        return Role.OBSERVE
    if any(path == route or path.startswith(f"{route}/") for route in _SUBMITTED_TO):
        return Role.SUBMIT
    return Role.ADMIN


def _read(file: Path) -> list[_Known]:
    lines = _lines(file)
    known: dict[bytes, Role] = {}
    hashed_only = True
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        entry = _entry(words, where=f"KECK_TOKENS_FILE={file}, line {number}")
        if entry.digest in known:
            raise SettingError(f"KECK_TOKENS_FILE={file}, line {number}: this token is there already")
        known[entry.digest] = entry.role
        hashed_only = hashed_only and words[1].startswith(_HASHED)
    if not known:
        raise SettingError(f"KECK_TOKENS_FILE={file}: holds no token; write lines of a role and a token")
    _require_private(file, hashed_only=hashed_only)
    return [_Known(digest, role) for digest, role in known.items()]


def _lines(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingError(f"KECK_TOKENS_FILE={file}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise SettingError(f"KECK_TOKENS_FILE={file}: is not UTF-8 text") from None
    if len(text) > _MOST_BYTES:
        raise SettingError(f"KECK_TOKENS_FILE={file}: is larger than {_MOST_BYTES} bytes")
    return text.splitlines()


def _entry(words: list[str], *, where: str) -> _Known:
    roles = {role.label: role for role in Role}
    if len(words) != 2 or words[0] not in roles:
        raise SettingError(f"{where}: must be a role ({', '.join(roles)}), a space and a token")
    role, token = roles[words[0]], words[1]
    if token.startswith(_HASHED):
        digest = token.removeprefix(_HASHED).lower()
        if not _HEX_DIGEST.fullmatch(digest):
            raise SettingError(f"{where}: after {_HASHED} there must be 64 hexadecimal digits")
        if bytes.fromhex(digest) == _digest(""):
            raise SettingError(f"{where}: this is the digest of nothing: was the variable empty?")
        return _Known(bytes.fromhex(digest), role)
    if len(token) < _LEAST_LETTERS:
        raise SettingError(
            f"{where}: a token of fewer than {_LEAST_LETTERS} letters can be guessed; "
            "`openssl rand -hex 32` makes one"
        )
    return _Known(_digest(token), role)


def _require_private(file: Path, *, hashed_only: bool) -> None:
    """Raise SettingError if others may change the file, or read tokens in it."""
    status = file.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise SettingError(f"KECK_TOKENS_FILE={file}: belongs to another user, who could add tokens")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingError(f"KECK_TOKENS_FILE={file}: can be written by others; `chmod 600` it")
    if not hashed_only and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingError(
            f"KECK_TOKENS_FILE={file}: can be read by others; `chmod 600` it, or write {_HASHED} and digests"
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
