"""The error budget and the lint through the whole system, on a GPU where there is one: what is flagged, and what not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from keck import Client, EvalDone, Verdict
from keck.embedded import Embedded, devices_here

DEVICE = "cuda" if any(device.startswith("cuda") for device in devices_here()) else "cpu"
ON_GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device: there is no TF32 elsewhere"),
)
WITHIN_S = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(WITHIN_S + 60),
    pytest.mark.asyncio(loop_scope="module"),
]

MATMUL = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(768, 512))
    def forward(self, x):
        return x @ self.weight

def get_inputs():
    return [torch.randn(256, 768)]

def get_init_inputs():
    return []
"""
CONVOLUTION = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(32, 64, 3, padding=1)
    def forward(self, x):
        return self.layer(x)

def get_inputs():
    return [torch.randn(8, 32, 32, 32)]

def get_init_inputs():
    return []
"""
PRECISE = "torch.backends.cudnn.allow_tf32 = False; "


def candidate_of(reference: str, forward: str) -> str:
    """The same module with another body of `forward`."""
    head, _, rest = reference.partition("def forward(self, x):\n        return ")
    tail = rest.partition("\n")[2]
    return f"{head}def forward(self, x):\n        {forward}\n{tail}".replace(
        "class Model(", "class ModelNew("
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a system of our own, on one device."""
    devices = [device for device in devices_here() if device.startswith(DEVICE)][:1]
    async with (
        Embedded(directory=tmp_path_factory.mktemp("precision"), devices=devices) as system,
        Client(system.nats_url) as connected,
    ):
        yield connected


async def flags_of(client: Client, reference: str, forward: str) -> set[str]:
    """The codes of the flags about correctness that a right candidate earns."""
    options: dict[str, Any] = {"device": DEVICE, "atol": 2.0, "timed_calls": 10, "correctness_sets": 2}
    done: EvalDone = await client.check(
        candidate_of(reference, forward), reference, options=options, timeout_s=WITHIN_S
    )
    assert done.verdict is Verdict.PASSED, done
    assert done.correctness is not None
    assert done.correctness.oracle == "fp64"
    return {flag.code for flag in done.flags} & {"precision_lowered", "weak_task"}


@pytest.mark.parametrize(
    ("reference", "forward"),
    [
        pytest.param(
            MATMUL,
            "torch.backends.cuda.matmul.allow_tf32 = True; return x @ self.weight",
            marks=ON_GPU,
            id="tf32",
        ),
        pytest.param(
            CONVOLUTION,
            "torch.backends.cudnn.allow_tf32 = True; return self.layer(x)",
            marks=ON_GPU,
            id="tf32 convolution",
        ),
        pytest.param(MATMUL, "return (x.bfloat16() @ self.weight.bfloat16()).float()", id="bfloat16"),
        pytest.param(MATMUL, "return (x.half() @ self.weight.half()).float()", id="float16"),
        pytest.param(MATMUL, "return x.bfloat16().float() @ self.weight", id="one operand in bfloat16"),
    ],
)
async def test_lowered_precision_is_flagged(client: Client, reference: str, forward: str) -> None:
    assert await flags_of(client, reference, forward) == {"precision_lowered"}


@pytest.mark.parametrize(
    ("reference", "forward"),
    [
        pytest.param(MATMUL, "return torch.matmul(x, self.weight)", id="the same"),
        pytest.param(MATMUL, "return (self.weight.t().flip(1) @ x.t().flip(0)).t()", id="reversed"),
        pytest.param(
            MATMUL,
            "return sum(a @ b for a, b in zip(x.split(48, 1), self.weight.split(48, 0)))",
            id="split",
        ),
        pytest.param(
            MATMUL,
            "parts = torch.stack([a @ b for a, b in zip(x.split(48, 1), self.weight.split(48, 0))]); "
            "return parts[torch.randperm(16)].cumsum(0)[-1]",
            id="in an order that differs from call to call",
        ),
        pytest.param(
            MATMUL,
            "y = torch.zeros(256, 512, device=x.device)\n        for k in range(768):\n"
            "            y.addr_(x[:, k], self.weight[k])\n        return y",
            id="one term after the other",
        ),
        pytest.param(CONVOLUTION, f"{PRECISE}return self.layer(x)", id="convolution"),
        pytest.param(
            CONVOLUTION,
            f"{PRECISE}columns = torch.nn.functional.unfold(x, 3, padding=1); w = self.layer.weight.flatten(1); "
            "return (w @ columns).unflatten(-1, x.shape[2:]) + self.layer.bias[:, None, None]",
            id="convolution as a product",
        ),
    ],
)
async def test_another_order_of_summation_is_not_flagged(
    client: Client, reference: str, forward: str
) -> None:
    assert await flags_of(client, reference, forward) == set()


async def test_a_convolution_is_sound_although_torch_runs_it_in_tf32_by_default(client: Client) -> None:
    done = await client.lint(CONVOLUTION, options={"device": DEVICE}, timeout_s=WITHIN_S)
    assert done.verdict is Verdict.PASSED, done
    assert done.lint is not None
    assert not done.lint.weak


async def test_a_reference_is_linted_through_the_whole_system(client: Client) -> None:
    done = await client.lint(MATMUL, options={"device": DEVICE}, timeout_s=WITHIN_S)
    assert done.verdict is Verdict.PASSED, done
    assert done.timing is None
    assert done.lint is not None
    assert not done.lint.weak
    assert done.lint.oracle == "fp64"
    assert [answer.passes for answer in done.lint.answers if answer.answer == "bf16_operands"] == [False]
    again = await client.lint(MATMUL, options={"device": DEVICE}, timeout_s=WITHIN_S)
    assert again.lint == done.lint  # found once, and kept
