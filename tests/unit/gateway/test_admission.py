"""Which executor a candidate needs, read from its source."""

from __future__ import annotations

import pytest

from keck.messages import Options
from keck.testing import sample_request
from keck_gateway.admission import device_wanted


@pytest.mark.parametrize(
    ("candidate", "device"),
    [
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=src)", "cuda"),
        ('load_inline(name="x", cpp_sources="", cuda_sources="""__global__ void k(){}""")', "cuda"),
        ("import triton\nimport triton.language as tl\n", "cuda"),
        ("if True:\n    from triton import jit\n", "cuda"),
        ("load_inline(name='x', cpp_sources=cpp)", "any"),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=[])", "any"),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources = '' )", "any"),
        ('load_inline(name="x", cpp_sources=cpp, cuda_sources="")', "any"),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=None)", "any"),
        ("class ModelNew: pass  # no triton here", "any"),
        ("", "any"),
    ],
)
def test_cuda_sources_and_triton_need_a_cuda_executor(candidate, device):
    assert device_wanted(sample_request(candidate=candidate)) == device


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_what_the_caller_says_counts(device):
    request = sample_request(candidate="import triton", options=Options(device=device))
    assert device_wanted(request) == device
