"""Where the command line writes: data on stdout, talk on stderr."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from keck.logs import configure
from keck.messages import to_json
from keck.settings import Settings, load

__all__ = ["plain", "print_data", "print_json", "say", "settings_and_logs", "stderr", "stdout"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def stdout() -> Console:
    """The console for data; made when needed, so that a redirected stdout is the one used."""
    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """The console for talk."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, style: str = "") -> None:
    """One line of talk."""
    stderr().print(Text(plain(text), style=style))


def print_data(text: str | Text) -> None:
    """Lines of data."""
    stdout().print(Text(plain(text)) if isinstance(text, str) else text)


def print_json(value: Any) -> None:
    """A value as one line of JSON."""
    sys.stdout.write(to_json(value).decode() + "\n")
    sys.stdout.flush()


def plain(text: str) -> str:
    """Text without control characters: what a candidate says must not drive the terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def settings_and_logs() -> Settings:
    """The settings, with log lines on stderr and only warnings of them unless ``KECK_LOG_LEVEL`` says more."""
    settings = load()
    quiet = (
        settings if os.environ.get("KECK_LOG_LEVEL") else dataclasses.replace(settings, log_level="warning")
    )
    configure(quiet, service="cli")
    return settings
