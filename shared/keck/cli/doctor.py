"""``keck doctor``: what is here, what is missing, and how to get it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from keck.cli._findings import Finding, bus_findings, findings_here
from keck.cli._talk import plain, print_data, print_json, say, settings_and_logs
from keck.environment import unknown_variable_sentence
from keck.settings import unknown_variables
from keck.verdict import ExitCode

__all__ = ["doctor"]


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Look at this machine; exits 0 if a check on the CPU device could run here, else 3.

    What is here, what is missing, and how to get it: `keck doctor`

    Only what is missing and needed: `keck doctor --json | jq '.findings[] | select(.needed and (.ok | not))'`
    """
    settings = settings_and_logs()
    findings = [*findings_here(settings), *asyncio.run(bus_findings(settings))]
    can_check = all(finding.ok for finding in findings if finding.needed)
    if json:
        print_json({"can_check_on_cpu": can_check, "findings": findings})
    else:
        print_data(_lines(findings))
    for name, nearest in unknown_variables():
        say(f"keck: {unknown_variable_sentence(name, nearest)}")
    if not can_check:
        say("keck: a check cannot run on this machine; a client of another one needs none of this")
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def _lines(findings: list[Finding]) -> Text:
    width = max(len(finding.name) for finding in findings)
    text = Text()
    for finding in findings:
        mark, style = (
            ("ok", "green") if finding.ok else (("missing", "red") if finding.needed else ("none", "dim"))
        )
        text.append(f"{finding.name:<{width}}  ")
        text.append(f"{mark:<7}  ", style=style)
        text.append(plain(finding.what))
        if not finding.ok and finding.remedy:
            text.append(f" -> {finding.remedy}", style="bold" if finding.needed else "dim")
        text.append("\n")
    text.rstrip()
    return text
