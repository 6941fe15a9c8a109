from __future__ import annotations

import pytest

from keck.errors import SettingError
from keck.settings import load
from keck_executor.placement import place


def _place(device: str, **changes: bool) -> tuple[str, int, str]:
    placement = place(load({"KECK_DEVICE": device}), **changes)
    return placement.kind, placement.index, placement.env["CUDA_VISIBLE_DEVICES"]


@pytest.fixture(autouse=True)
def _no_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_auto_takes_the_first_gpu_or_the_cpu() -> None:
    assert _place("auto", gpu_present=True) == ("cuda", 0, "0")
    assert _place("auto", gpu_present=False) == ("cpu", 0, "")


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_a_gpu_is_the_only_one_its_processes_see(device: str, index: int) -> None:
    assert _place(device) == ("cuda", index, str(index))


def test_the_cpu_device_sees_no_gpu_at_all() -> None:
    assert _place("cpu") == ("cpu", 0, "")


def test_an_index_counts_within_what_the_operator_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-abc")
    assert _place("cuda:1") == ("cuda", 1, "GPU-abc")
    with pytest.raises(SettingError, match="names only 2"):
        _place("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda:1:2", "cpu:0"])
def test_what_names_no_device_is_refused(device: str) -> None:
    with pytest.raises(SettingError, match="KECK_DEVICE"):
        _place(device)


def test_targets_follow_the_device() -> None:
    assert place(load({"KECK_DEVICE": "cpu"})).target({}) == "cpu"
    assert place(load({"KECK_DEVICE": "cuda"})).target({"arch": "9.0"}) == "sm90"
