"""Which executor a candidate needs, read from its source."""

from __future__ import annotations

import pytest

from keck.messages import Options
from keck.testing import sample_request
from keck_gateway.admission import target_wanted


@pytest.mark.parametrize(
    ("candidate", "target"),
    [
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=src)", "cuda-any"),
        ('load_inline(name="x", cpp_sources="", cuda_sources="""__global__ void k(){}""")', "cuda-any"),
        ("import triton\nimport triton.language as tl\n", "cuda-any"),
        ("if True:\n    from triton import jit\n", "cuda-any"),
        ("load_inline(name='x', cpp_sources=cpp)", None),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=[])", None),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources = '' )", None),
        ('load_inline(name="x", cpp_sources=cpp, cuda_sources="")', None),
        ("load_inline(name='x', cpp_sources=cpp, cuda_sources=None)", None),
        ("class ModelNew: pass  # no triton here", None),
        ("", None),
    ],
)
def test_cuda_sources_and_triton_need_a_cuda_executor(candidate, target):
    assert target_wanted(sample_request(candidate=candidate)) == target


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (Options(device="cpu"), "cpu"),
        (Options(device="cuda"), "cuda-any"),
        (Options(arch="9.0"), "sm90"),
        (Options(arch="9.0a", device="cuda"), "sm90"),
        (Options(arch="12.0"), "sm120"),
        (Options(arch="8.0+PTX"), "cuda-any"),
        (Options(arch="8.0;9.0"), "cuda-any"),
    ],
    ids=str,
)
def test_what_the_caller_says_counts(options, target):
    request = sample_request(candidate="load_inline('x', cuda_sources=source)", options=options)
    assert target_wanted(request) == target


def test_an_architecture_is_no_matter_where_nothing_is_built_for_it():
    assert target_wanted(sample_request(candidate="import triton", options=Options(arch="9.0"))) == "cuda-any"
    assert target_wanted(sample_request(candidate="", options=Options(arch="9.0"))) is None
