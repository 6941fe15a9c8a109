"""Paths of the toolchain in a form that means the same on every machine.

A candidate may pass ``torch.utils.cpp_extension.include_paths()`` or ``-L$CUDA_HOME/lib64``: real paths, other
ones in the compiler than in the executor. Tokens stand for their roots, so that one call has one digest.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig

__all__ = ["is_toolchain", "local", "portable"]

_CUDA = "{{cuda}}"
_SYSTEM = ("/usr/include", "/usr/lib", "/usr/lib64", "/usr/local/include", "/usr/local/lib", "/lib", "/lib64")
_STANDARD_CUDA = re.compile(r"/usr/local/cuda(-[0-9.]+)?(?=$|[/:,;])")


def portable(text: str) -> str:
    """The text with the roots of this machine's toolchain replaced by tokens."""
    for token, root in _roots():
        # Only whole path components: /opt/python must not match /opt/python3.
        text = re.sub(re.escape(root) + r"(?=$|[/:,;\s\"'])", lambda _, token=token: token, text)  # type: ignore[misc]  # mypy cannot type a lambda's default
    return _STANDARD_CUDA.sub(_CUDA, text)


def local(text: str) -> str:
    """The text with tokens replaced by this machine's roots."""
    for token, root in reversed(_roots()):
        text = text.replace(token, root)
    return text.replace(_CUDA, "/usr/local/cuda")


def is_toolchain(path: str | os.PathLike[str]) -> bool:
    """Whether a directory belongs to the toolchain and not to the candidate."""
    text = os.path.normpath(portable(os.fspath(path)))
    return text.startswith("{{") or any(text == root or text.startswith(root + "/") for root in _SYSTEM)


def _roots() -> list[tuple[str, str]]:
    """(token, directory), the deepest first, so that site-packages is not taken for its prefix."""
    roots = [
        (_CUDA, os.environ.get("CUDA_HOME", "")),
        ("{{site}}", sysconfig.get_path("purelib")),
        ("{{prefix}}", sys.prefix),
        ("{{python}}", sys.base_prefix),
    ]
    usable = [(token, root.rstrip("/")) for token, root in roots if root and root not in ("/", "/usr")]
    return sorted(usable, key=lambda item: -len(item[1]))
