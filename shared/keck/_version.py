"""The package's version, in one place for wheels and source trees alike."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("keck")
except PackageNotFoundError:  # a source tree on sys.path, as on a machine where nothing may be installed
    __version__ = "0+source"
