"""Whose a kernel is. The names are as CUPTI tells them."""

from __future__ import annotations

import pytest

from keck.messages import Reading
from keck_executor.judge.kernel_origin import origin_of

OWN = Reading(
    kernels=["softmax_kernel", "cublas_like", "vectorized_elementwise_kernel"], triton=["relu_kernel", "e"]
)
CALLS_CUBLAS = Reading(kernels=["ampere_sgemm_128x64_nn"], library_calls=["cublasSgemm"])
_RELU = "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::relu(int)::{lambda()#1}>(int, x)"


@pytest.mark.parametrize(
    ("name", "launched_by", "origin"),
    [
        ("softmax_kernel(float const*, float*, int)", "", "own"),
        ("void softmax_kernel<float, 4>(float const*, int)", "", "own"),
        ("void (anonymous namespace)::softmax_kernel<(int)4>(float*)", "", "own"),
        ("void n::m::softmax_kernel<n::Pair<float, int>, 2>(float*)", "own::softmax", "own"),
        ("cublas_like(float*)", "", "own"),
        ("cublas_like", "", "own"),
        ("relu_kernel", "", "triton"),
        ("e", "", "triton"),
        (_RELU, "aten::relu", "aten"),
        (_RELU, "", "aten"),
        ("softmax_kernel(float*)", "aten::softmax", "aten"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>(float)", "aten::cudnn_batch_norm", "library"),
        ("ampere_sgemm_128x64_nn", "aten::mm", "library"),
        ("ampere_sgemm_128x64_nn", "", "library"),
        ("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32", "aten::mm", "library"),
        ("nvjet_tst_128x64_64x8_2x1_v_bz_TNT", "", "library"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128>(P)", "aten::mm", "library"),
        ("void gemmSN_TN_kernel<float, 128, 16>(P)", "", "library"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>(P)", "", "library"),
        ("void (anonymous namespace)::softmax_warp_forward<float>(P)", "aten::_softmax", "aten"),
        ("void cutlass::device_kernel<Own>(P)", "", "own"),
        ("triton_poi_fused_relu_0", "", "inductor"),
        ("triton_red_fused_softmax_1", "Torch-Compiled Region: 0/0", "inductor"),
        ("kernel_built_at_run_time", "", "unknown"),
        ("Memcpy DtoD (Device -> Device)", "", "unknown"),
        ("", "", "unknown"),
        ("<" * 200, "", "unknown"),
    ],
)
def test_a_kernels_origin(name: str, launched_by: str, origin: str) -> None:
    assert origin_of(name, launched_by, OWN) == origin


def test_a_name_like_a_vendors_is_no_alibi_for_who_calls_the_vendor() -> None:
    assert origin_of("ampere_sgemm_128x64_nn", "", CALLS_CUBLAS) == "library"
    assert origin_of("void cutlass::Kernel2<cutlass_80>(P)", "", CALLS_CUBLAS) == "library"
    assert origin_of("a_kernel_of_next_year", "", CALLS_CUBLAS) == "library"
    assert origin_of("Memset (Device)", "", CALLS_CUBLAS) == "unknown"
    # Without such a call it is a name like any other.
    assert origin_of("ampere_sgemm_128x64_nn", "", Reading(kernels=["ampere_sgemm_128x64_nn"])) == "own"
