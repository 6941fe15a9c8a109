"""What ``GET /metrics`` shows: the fleet as its heartbeats describe it, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keck.messages import Heartbeat
from keck_gateway.desk import Desk

__all__ = ["exposition"]


def exposition(desk: Desk) -> bytes:
    """All metrics of this moment."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fleet(desk.fleet.live(), connected=desk.bus.nc.is_connected))
    return generate_latest(registry)


class _Fleet(Collector):
    """Collected anew for each answer: what is shown is what was heard of lately, and of nobody who is gone."""

    def __init__(self, workers: Sequence[Heartbeat], *, connected: bool) -> None:
        self._workers = workers
        self._connected = connected

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every family, also those without a sample."""
        yield GaugeMetricFamily(
            "keck_bus_connected", "1 while the gateway reaches NATS.", float(self._connected)
        )
        yield self._count()
        yield self._tiers()
        yield self._properties()

    def _count(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily("keck_workers", "Live workers.", labels=("role", "target", "state"))
        for labels, count in sorted(Counter((w.role, w.target, w.state) for w in self._workers).items()):
            found.add_metric(labels, count)
        return found

    def _tiers(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "keck_worker_isolation",
            "1 for the tier in which a worker contains what it runs (docs/sandbox.md).",
            labels=("worker", "role", "tier", "user"),
        )
        for worker in self._workers:
            if worker.isolation is not None:
                labels = (worker.worker, worker.role, worker.isolation.level, worker.isolation.user)
                found.add_metric(labels, 1)
        return found

    def _properties(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "keck_worker_isolation_property",
            "1 where everything that was tried against this property of a worker's cells was held off.",
            labels=("worker", "role", "property"),
        )
        for worker in self._workers:
            properties = worker.isolation.properties if worker.isolation is not None else {}
            for name, told in sorted(properties.items()):
                holds = told == "ok" or told.startswith("ok:")
                found.add_metric((worker.worker, worker.role, name), float(holds))
        return found
