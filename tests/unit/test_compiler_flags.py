"""Which flags pass, and what the refusal says."""

from __future__ import annotations

import pytest

from keck_cell import call_from_load_inline
from keck_compiler.flags import refused_flag

_ORDINARY = [
    "-O3", "-Ofast", "-std=c++17", "-std=c++20", "-DNAME=1", "-DNAME", "-UNDEBUG", "-march=native", "-fopenmp",
    "-funroll-loops", "-ffast-math", "-mavx2", "-Wall", "-Wno-unused", "-w", "-g", "-fPIC", "-pthread",
    "-fvisibility=hidden", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DTEXT=\\\"quoted\\\"",
]  # fmt: skip
_CUDA = [
    "--use_fast_math", "-use_fast_math", "-lineinfo", "-Xptxas", "-v", "-Xptxas=-v,-O3", "-Xptxas -O3",
    "--expt-relaxed-constexpr", "--expt-extended-lambda", "-gencode=arch=compute_90,code=sm_90",
    "-gencode arch=compute_80,code=sm_80", "-arch=sm_90a", "--generate-code=arch=compute_80,code=compute_80",
    "-maxrregcount=64", "--maxrregcount 64", "-Xcompiler", "-fopenmp", "-Xcompiler=-O3,-march=native",
    "--ptxas-options=-v", "--compiler-options '-O3 -Wall'", "--threads 4", "-rdc=true", "-diag-suppress 177",
    "-U__CUDA_NO_HALF_OPERATORS__", "--ftz=true", "-G", "-O 3", "-extra-device-vectorization", "--restrict",
]  # fmt: skip
_LINK = [
    "-lcublas", "-lcudnn", "-lcuda", "-lgomp", "-fopenmp", "-L/usr/local/cuda/lib64", "-L/usr/lib/x86_64-linux-gnu",
    "-Wl,-rpath,/usr/local/cuda/lib64", "-Wl,--no-as-needed", "-Wl,--as-needed", "-s", "-lm", "-Wl,-O1", "-ldl",
    "-Wl,-Bsymbolic", "-lstdc++fs",
]  # fmt: skip
_REFUSED = [
    "-ccbin", "-ccbin=/bin/sh", "--compiler-bindir=/x", "-fplugin=/x.so", "-fplugin-arg-x-y", "-specs=/x",
    "--specs=/x", "-wrapper", "-B/x", "-B.", "@file", "--options-file=x", "-optf x", "-x", "-xc", "--x=cu",
    "-T/x.ld", "-T script", "-Wl,-T,script", "-Wl,--dynamic-linker=/x", "-Wl,-rpath,/home/x", "-Wl,-plugin,/x",
    "-Wl,@x", "-Xlinker -T", "-Xlinker --script=/x", "-Xcompiler -fplugin=/x.so", "-Xcompiler=-fplugin=/x.so",
    "-Xcompiler '-O3 -fplugin=/x'", "--compiler-options=-wrapper,sh", "-I/home/me", "-I/etc", "-L/home/me",
    "-isystem /etc", "-I../..", "-include /etc/passwd", "-imacros/etc/passwd", "--pre-include=/etc/passwd",
    "-o /x", "-o/x", "--output-file=/x", "-MF /x", "-MD", "/etc/passwd", "x.o", "-O3 evil.cpp", "-",
    "-DX=$(id)", "-DX=`id`", "-O3; id", "-O3 | id", "-O3 && id", "-O3 > x", "-DX='a", "--run", "-E", "-dryrun",
    "--sysroot=/x", "-fdump-tree-all=/x", "-fprofile-use=/x", "-Wa,@x", "-Wp,-MD,/x", "-Wl,-Map,/x", "-Wl,-I,/x",
    "--unheard-of", "-Wl,--version-script=/x",
]  # fmt: skip


def _refusal(field: str, *flags: str) -> str | None:
    return refused_flag(call_from_load_inline(("m", "x"), {field: list(flags)}))


@pytest.mark.parametrize("flag", _ORDINARY)
def test_ordinary_host_flags_pass(flag: str) -> None:
    assert _refusal("extra_cflags", flag) is None


def test_ordinary_cuda_flags_pass_alone_and_together() -> None:
    assert _refusal("extra_cuda_cflags", *_CUDA) is None
    for flag in set(_CUDA) - {"-Xptxas", "-Xcompiler"}:
        assert _refusal("extra_cuda_cflags", flag) is None, flag


@pytest.mark.parametrize("flag", _LINK)
def test_ordinary_link_flags_pass(flag: str) -> None:
    assert _refusal("extra_ldflags", flag) is None


@pytest.mark.parametrize("field", ["extra_cflags", "extra_cuda_cflags", "extra_ldflags"])
@pytest.mark.parametrize("flag", _REFUSED)
def test_flags_that_reach_outside_are_refused(flag: str, field: str) -> None:
    assert _refusal(field, flag) is not None
    assert _refusal(field, *flag.split(" ")) is not None


def test_the_refusal_names_extension_argument_and_flag() -> None:
    reason = _refusal("extra_cuda_cflags", "-O3", "-ccbin=/tmp/evil")
    assert reason == "`extra_cuda_cflags` of extension `m`: the flag `-ccbin=/tmp/evil` is not allowed"
