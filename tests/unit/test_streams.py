"""The table of streams, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from keck import subjects
from keck.streams import stream_configs

PROFILES = pytest.mark.parametrize("storage", ["embedded", "production"])


def _by_name(storage: str) -> dict[str, dict[str, Any]]:
    return {config["name"]: config for config in stream_configs(storage)}


def test_the_embedded_profile_holds_two_gibibytes_at_most() -> None:
    assert sum(config["max_bytes"] for config in stream_configs("embedded")) <= 2 << 30


@PROFILES
def test_every_stream_is_bounded(storage: str) -> None:
    for config in stream_configs(storage):
        assert config["max_bytes"] > 0, config["name"]
        assert config["max_consumers"] > 0, config["name"]


@PROFILES
def test_queues_refuse_what_they_cannot_hold_and_never_let_work_expire(storage: str) -> None:
    for name in (subjects.CHECKS, subjects.BUILDS):
        config = _by_name(storage)[name]
        assert (config["retention"], config["discard"], config["max_age"]) == ("workqueue", "new", 0)
        assert config["max_msgs"] > 0


@PROFILES
def test_facts_drop_what_is_oldest(storage: str) -> None:
    for name in (subjects.EVALS, subjects.HISTORY, subjects.DEAD):
        config = _by_name(storage)[name]
        assert (config["retention"], config["discard"]) == ("limits", "old")


@PROFILES
def test_artifacts_outlive_the_builds_that_name_them(storage: str) -> None:
    streams = _by_name(storage)
    assert streams["OBJ_artifacts"]["max_age"] > streams[subjects.HISTORY]["max_age"]
    assert streams["KV_builds"]["max_age"] <= streams["OBJ_artifacts"]["max_age"]


@PROFILES
def test_no_duplicate_window_is_longer_than_its_stream_remembers(storage: str) -> None:
    for config in stream_configs(storage):
        assert config["duplicate_window"] <= config["max_age"] or config["max_age"] == 0


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"huge.*embedded, production"):
        stream_configs("huge")
