"""One ``load_inline`` or ``load`` call, as a value: what it builds, and the digest it is found again by."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast

__all__ = ["MAX_CALL_BYTES", "ExtensionCall", "ExtensionCallError", "require_name"]

MAX_CALL_BYTES = 4 << 20
"""All texts of one call together: sources may be computed, and so be larger than the candidate itself."""
_MAX_ITEMS = 512
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_DOMAIN = b"keck.extension-call.1\n"


class ExtensionCallError(ValueError):
    """The call cannot be built; the message is for whoever wrote the candidate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtensionCall:
    """Everything that decides what an extension call builds, in one normal form."""

    kind: Literal["load_inline", "load"]
    name: str
    cpp_sources: tuple[str, ...] = ()
    cuda_sources: tuple[str, ...] = ()
    functions: tuple[tuple[str, str], ...] | None = None
    """Bound functions to their documentation, in order; None where the source binds them itself."""
    extra_cflags: tuple[str, ...] = ()
    extra_cuda_cflags: tuple[str, ...] = ()
    extra_ldflags: tuple[str, ...] = ()
    extra_include_paths: tuple[str, ...] = ()
    """Toolchain directories only, in the portable form of :mod:`keck_cell.paths`."""
    with_cuda: bool | None = None
    is_python_module: bool = True
    no_implicit_headers: bool = False
    with_pytorch_error_handling: bool = True
    files: tuple[tuple[str, str], ...] = ()
    """For ``load``: name and text of each source, in the order given."""
    headers: tuple[tuple[str, str], ...] = ()
    """Relative path and text of the candidate's own headers that the sources include."""

    @property
    def uses_cuda(self) -> bool:
        """Whether the CUDA toolkit takes part in the build, decided as torch decides it."""
        if self.with_cuda is not None:
            return self.with_cuda
        return bool(self.cuda_sources) or any(_is_cuda(name) for name, _ in self.files)

    @property
    def has_device_code(self) -> bool:
        """Whether anything is compiled for a GPU, so that the architecture matters."""
        return bool(self.cuda_sources) or any(_is_cuda(name) for name, _ in self.files)

    def digest(self) -> str:
        """sha256 of what is built: the same for every spelling of the same call, on every machine."""
        content = self.to_dict()
        # Temporary files have random names; only the language (the suffix) and the text matter.
        content["files"] = [[_suffix(name), text] for name, text in self.files]
        content["headers"] = sorted(self.headers)
        content["with_cuda"] = self.uses_cuda
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(_DOMAIN + canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The call as plain JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "cpp_sources": list(self.cpp_sources),
            "cuda_sources": list(self.cuda_sources),
            # Pairs, not an object: the order of bindings is the candidate's.
            "functions": None if self.functions is None else [list(item) for item in self.functions],
            "extra_cflags": list(self.extra_cflags),
            "extra_cuda_cflags": list(self.extra_cuda_cflags),
            "extra_ldflags": list(self.extra_ldflags),
            "extra_include_paths": list(self.extra_include_paths),
            "with_cuda": self.with_cuda,
            "is_python_module": self.is_python_module,
            "no_implicit_headers": self.no_implicit_headers,
            "with_pytorch_error_handling": self.with_pytorch_error_handling,
            "files": [list(item) for item in self.files],
            "headers": [list(item) for item in self.headers],
        }

    def to_json(self) -> str:
        """The call as JSON text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> ExtensionCall:
        """Read what :meth:`to_json` wrote, believing nothing.

        Raises:
            ExtensionCallError: it is no call, or one out of bounds.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ExtensionCallError("not a recorded extension call: not JSON") from error
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: object) -> ExtensionCall:
        """Read what :meth:`to_dict` gave, believing nothing.

        Raises:
            ExtensionCallError: it is no call, or one out of bounds.
        """
        if not isinstance(content, dict) or set(content) != _FIELDS:
            raise ExtensionCallError("not a recorded extension call: wrong fields")
        functions = content["functions"]
        call = cls(
            kind=content["kind"],
            name=content["name"],
            cpp_sources=_texts(content, "cpp_sources"),
            cuda_sources=_texts(content, "cuda_sources"),
            functions=None if functions is None else tuple(dict(_pairs(content, "functions")).items()),
            extra_cflags=_texts(content, "extra_cflags"),
            extra_cuda_cflags=_texts(content, "extra_cuda_cflags"),
            extra_ldflags=_texts(content, "extra_ldflags"),
            extra_include_paths=_texts(content, "extra_include_paths"),
            with_cuda=content["with_cuda"],
            is_python_module=content["is_python_module"],
            no_implicit_headers=content["no_implicit_headers"],
            with_pytorch_error_handling=content["with_pytorch_error_handling"],
            files=_pairs(content, "files"),
            headers=_pairs(content, "headers"),
        )
        call.check()
        return call

    def check(self) -> None:
        """Refuse what no build can be made of.

        Raises:
            ExtensionCallError: with the reason.
        """
        if self.kind not in ("load_inline", "load"):
            raise ExtensionCallError(f"unknown kind of extension call: {_shown(self.kind)}")
        require_name(self.name)
        for field in _BOOLEANS:
            if not isinstance(getattr(self, field), bool):
                raise ExtensionCallError(f"`{field}` of extension `{self.name}` must be True or False")
        if self.with_cuda is not None and not isinstance(self.with_cuda, bool):
            raise ExtensionCallError(f"`with_cuda` of extension `{self.name}` must be True, False or None")
        if self.kind == "load" and not self.files:
            raise ExtensionCallError(f"extension `{self.name}` names no source files")
        self._check_files()
        self._check_size()

    def _check_files(self) -> None:
        for name, _ in self.files:
            if not _FILE_NAME.fullmatch(name):
                raise ExtensionCallError(f"the source file name {name[:80]!r} cannot be used")
        if len({name for name, _ in self.files}) != len(self.files):
            raise ExtensionCallError(f"two source files of extension `{self.name}` have the same name")
        for path, _ in self.headers:
            if not all(_FILE_NAME.fullmatch(part) for part in path.split("/")):
                raise ExtensionCallError(f"the header name {path[:80]!r} cannot be used")

    def _check_size(self) -> None:
        pairs = [*self.files, *self.headers, *(self.functions or ())]
        texts = [
            *self.cpp_sources, *self.cuda_sources, *self.extra_cflags, *self.extra_cuda_cflags,
            *self.extra_ldflags, *self.extra_include_paths, *(part for pair in pairs for part in pair),
        ]  # fmt: skip
        try:
            size = sum(len(text.encode()) for text in texts)
        except UnicodeEncodeError:
            raise ExtensionCallError(
                f"the sources of extension `{self.name}` are not valid Unicode text"
            ) from None
        if size > MAX_CALL_BYTES or len(texts) > 8 * _MAX_ITEMS:
            raise ExtensionCallError(
                f"extension `{self.name}` has {size} bytes of source in {len(texts)} pieces; "
                f"at most {MAX_CALL_BYTES} bytes are taken"
            )


_FIELDS = frozenset(ExtensionCall.__slots__)
_BOOLEANS = ("is_python_module", "no_implicit_headers", "with_pytorch_error_handling")


def require_name(name: object) -> None:
    """Refuse a name that no module or file can have.

    Raises:
        ExtensionCallError: it is one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ExtensionCallError(
            f"the extension name {_shown(name)} cannot be used: take letters, digits and `_`"
        )


def _shown(value: object) -> str:
    """A value of unknown type and size, for a message."""
    return repr(value[:80]) if isinstance(value, str) else f"of type {type(value).__name__}"


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""


def _is_cuda(name: str) -> bool:
    return _suffix(name) in (".cu", ".cuh")


def _texts(content: dict[str, Any], field: str) -> tuple[str, ...]:
    value = content[field]
    if not isinstance(value, list) or len(value) > _MAX_ITEMS or not all(isinstance(v, str) for v in value):
        raise ExtensionCallError(f"`{field}` must be a list of at most {_MAX_ITEMS} strings")
    return tuple(value)


def _pairs(content: dict[str, Any], field: str) -> tuple[tuple[str, str], ...]:
    value = content[field]
    fits = isinstance(value, list) and len(value) <= _MAX_ITEMS
    if not fits or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in value
    ):
        raise ExtensionCallError(f"`{field}` must be a list of at most {_MAX_ITEMS} pairs of strings")
    return tuple(cast("tuple[str, str]", tuple(pair)) for pair in value)
