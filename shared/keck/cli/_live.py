"""The state of an embedded system as a table."""

from __future__ import annotations

from rich.table import Table

from keck.embedded import Embedded
from keck.messages import Heartbeat

__all__ = ["status_of"]


def status_of(system: Embedded) -> Table:
    """One row per process: what it is, whether it lives, and how busy it is."""
    workers = {worker.pid: worker for worker in system.fleet.live()}
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("process", "pid", "state", "busy", "restarts", "device"):
        table.add_column(heading)
    for child in system.processes:
        worker = workers.get(child.pid)
        table.add_row(
            child.name,
            str(child.pid),
            _state(child.is_running, worker, reports=child.name != "nats"),
            f"{worker.busy}/{worker.slots}" if worker is not None else "",
            str(child.starts - 1) if child.starts > 1 else "",
            str(worker.facts.get("gpu") or worker.target) if worker is not None else "",
        )
    return table


def _state(is_running: bool, worker: Heartbeat | None, *, reports: bool) -> str:
    if not is_running:
        return "[red]down[/red]"
    if worker is None:
        return "[yellow]silent[/yellow]" if reports else "[green]running[/green]"
    return f"[green]{worker.state}[/green]" if worker.state == "ready" else f"[yellow]{worker.state}[/yellow]"
