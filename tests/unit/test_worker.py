"""Names and heartbeats of processes."""

from __future__ import annotations

import os
import socket
import time

import pytest

from keck.errors import SettingError
from keck.messages import Heartbeat, decode, encode
from keck.settings import load
from keck.worker import Worker


def test_a_process_is_named_by_role_host_and_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-3.example.org")
    assert Worker.of(load({}), "compiler").name == f"compiler-node-3-example-org-{os.getpid()}"


def test_a_long_or_foreign_host_name_still_gives_one_token_that_ends_in_the_pid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "größter-rechner." * 10)
    worker = Worker.of(load({}), "executor")
    assert len(worker.name) <= 64
    assert worker.name.endswith(f"-{os.getpid()}")
    heartbeat = worker.heartbeat(slots=1, busy=0)
    assert decode(encode(heartbeat), Heartbeat) == heartbeat


def test_a_given_name_is_taken_and_a_bad_one_refused() -> None:
    assert Worker.of(load({"KECK_WORKER": "gpu-7"}), "executor").name == "gpu-7"
    with pytest.raises(SettingError, match=r"KECK_WORKER='gpu\.7'"):
        Worker.of(load({"KECK_WORKER": "gpu.7"}), "executor")


def test_a_heartbeat_says_when_it_was_made() -> None:
    worker = Worker.of(load({}), "gateway")
    before = time.time()
    heartbeat = worker.heartbeat(slots=10, busy=3, facts={"url": "http://127.0.0.1:1"})
    assert before <= heartbeat.at <= time.time()
    assert (heartbeat.busy, heartbeat.facts["url"]) == (3, "http://127.0.0.1:1")
