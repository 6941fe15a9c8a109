"""Which executors take what."""

from __future__ import annotations

import msgspec
import pytest

from keck.errors import BadRequest
from keck.messages import Options, new_request
from keck.targets import gpu_model, targets_of


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("NVIDIA GB200", "gb200"),
        ("H200", "h200"),
        ("NVIDIA Graphics Device", ""),
        ("", ""),
    ],
)
def test_the_model_is_the_first_word_with_a_digit(name: str, model: str) -> None:
    assert gpu_model(name) == model


def test_an_executor_serves_its_model_its_architecture_and_any() -> None:
    assert targets_of("sm90", "NVIDIA H200") == ["gpu-h200", "sm90", "cuda-any"]
    assert targets_of("sm90", None) == ["sm90", "cuda-any"]
    assert targets_of("cpu", None) == ["cpu"]


@pytest.mark.parametrize("gpu", ["", "H200", "4090", "l40s"])
def test_a_model_that_can_be_asked_for(gpu: str) -> None:
    assert new_request("x", "x", options=Options(gpu=gpu)).options.gpu == gpu


@pytest.mark.parametrize("gpu", ["H100 80GB", "any", "h.1", "*1", "1" * 17, "h100\n"])
def test_what_is_no_model_is_refused(gpu: str) -> None:
    with pytest.raises(BadRequest, match="gpu"):
        new_request("x", "x", options=msgspec.structs.replace(Options(), gpu=gpu))
