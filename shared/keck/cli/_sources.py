"""Sources from files and from stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from keck.errors import BadRequest

__all__ = ["STDIN", "read_source"]

STDIN: Final = "-"


def read_source(path: str, side: str) -> str:
    """The text of a file, or of stdin.

    Raises:
        BadRequest: it cannot be read.
    """
    try:
        return sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadRequest(f"there is no file {path} (the {side})") from None
    except IsADirectoryError:
        raise BadRequest(f"{path} is a directory; the {side} must be a Python file") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} (the {side}) is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise BadRequest(f"cannot read {path} (the {side}): {error.strerror}") from None
