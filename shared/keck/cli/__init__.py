"""The command line: data on stdout, talk on stderr, exit codes as in :class:`keck.verdict.ExitCode`."""

from __future__ import annotations

from keck.cli._main import app, main

__all__ = ["app", "main"]
