"""What Prometheus reads: the fleet as its heartbeats describe it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from keck.messages import Isolation

CONTAINED = Isolation(
    level="A-",
    user="own",
    landlock=7,
    properties={"net": "ok", "space": "ok: tmpfs", "memory": "partial: looked at", "ptrace": "open: attach"},
)


async def test_metrics_show_who_is_alive_and_how_each_contains_what_it_runs(
    gateway, worker, make_heartbeat, beat
):
    await beat(make_heartbeat("compiler", worker="compiler-two", isolation=CONTAINED))
    await beat(make_heartbeat("executor", worker="executor-two", target="sm90", state="quarantined"))
    await gateway.sees(executors=2)
    answer = await gateway.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["keck_bus_connected",] == 1
    assert found["keck_workers", "executor", "ready", "cpu"] == 1
    assert found["keck_workers", "executor", "quarantined", "sm90"] == 1
    assert found["keck_worker_isolation", "compiler", "A-", "own", "compiler-two"] == 1
    properties = {
        labels[0]: value
        for (name, *labels), value in found.items()
        if name == "keck_worker_isolation_property"
    }
    assert properties == {"net": 1, "space": 1, "memory": 0, "ptrace": 0}
