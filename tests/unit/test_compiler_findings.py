"""What a candidate's text is seen to do, and what honest texts are not accused of."""

from __future__ import annotations

import ast

import pytest

from keck.flag_codes import CODES
from keck_compiler.reading.cpp_source import read_cpp
from keck_compiler.reading.python_source import names_low_types, read_python, read_strings

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def _python(source: str, *, low_types: bool = False) -> set[str]:
    tree = ast.parse(source)
    readings = (read_python(source, tree, low_types=low_types), read_strings(tree, low_types=low_types))
    codes = {finding.code for reading in readings for finding in reading.findings}
    assert codes <= set(CODES)
    return codes


def _model(forward: str, *, init: str = "pass", top: str = "") -> str:
    return (
        f"{HEAD}{top}\nclass ModelNew(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        {init}\n    def forward(self, x, y=None):\n        {forward}\n"
    )


@pytest.mark.parametrize(
    "forward",
    [
        "return x @ y",
        "return torch.matmul(x, y)",
        "return x.mm(y)",
        "return F.softmax(x, dim=-1)",
        "return torch.nn.functional.linear(x, y)",
        "return torch.ops.aten.mm(x, y)",
        "return nn.ReLU()(x)",
    ],
)
def test_operators_of_torch_are_found_however_they_are_named(forward: str) -> None:
    assert "delegation.aten" in _python(_model(forward))


def test_a_layer_is_found_where_it_is_called_and_not_where_it_holds_weights() -> None:
    assert _python(_model("return self.f(x)", init="self.f = nn.Linear(2, 2)")) == {"delegation.aten"}
    assert _python(_model("return ext.f(x, self.f.weight)", init="self.f = nn.Linear(2, 2)")) == set()


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("delegation.torch_compile", _model("return self.f(x)", init="self.f = torch.compile(g)")),
        ("delegation.torch_compile", f"{HEAD}@torch.jit.script\ndef f(x): return x\n"),
        ("fallback.try_except", _model("try:\n            return ext.f(x)\n        except Exception:\n            return x @ y")),
        (
            "fallback.try_except",
            "import contextlib\n" + _model("with contextlib.suppress(Exception):\n            return ext.f(x)\n        return x @ y"),
        ),
        ("precision.low_types", _model("return ext.f(x.half()).float()")),
        ("precision.low_types", _model("return ext.f(x.to(torch.bfloat16))")),
        ("reference.imported", "from reference import Model\n"),
        ("reference.imported", "import importlib\nm = importlib.import_module('reference')\n"),
        ("reference.imported", f"{HEAD}from other import Model\nclass ModelNew(Model):\n    '''x'''\n"),
        ("introspection", "import gc\n"),
        ("introspection", "import sys\nm = sys.modules\n"),
        ("introspection", "import sys\nf = sys._getframe(1).f_back\n"),
        ("introspection", "import torch\ntorch.cuda.Event.elapsed_time = lambda a, b: 0\n"),
        ("introspection", "import torch\nsetattr(torch, 'allclose', print)\n"),
        ("introspection", "import torch\nf = getattr(torch, 'mat' + 'mul')\n"),
        ("introspection", "import base64\nexec(base64.b64decode('eA=='))\n"),
        ("introspection", "import os\nos.environ['X'] = '1'\n"),
        ("introspection", "import ctypes\n"),
        ("delegation.library", "import cupy\n"),
        ("provenance.decoy_kernel", "import triton\n@triton.jit\ndef k(x): pass\n"),
        ("provenance.decoy_kernel", "from torch.utils.cpp_extension import load_inline\next = load_inline('a', '')\n"),
        (
            "provenance.decoy_kernel",
            "from torch.utils.cpp_extension import load_inline\next = load_inline('a', '')\ndef f(x):\n    y = ext.f(x)\n    return x\n",
        ),
    ],
)  # fmt: skip
def test_what_a_text_does_is_found(code: str, source: str) -> None:
    assert code in _python(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Instead of torch.matmul and torch.compile; see gc, inspect, cublasSgemm and x.half()."""\n',
        "# return torch.matmul(x, y)  exec(gc)\nx = 1\n",
        _model('"""Like F.softmax."""\n        return ext.f(x)'),
        _model("return ext.f(x.contiguous().view(-1), torch.empty_like(x), torch.zeros(1))"),
        "try:\n    import triton\nexcept ImportError:\n    triton = None\n",
        _model("try:\n            return ext.f(x)\n        finally:\n            pass"),
        "import torch\ntorch.backends.cudnn.benchmark = True\ntorch.backends.cuda.matmul.fp32_precision = 'ieee'\n",
        f"{HEAD}class Model(nn.Module): pass\nclass ModelNew(Model): pass\n",
        "import triton\n@triton.jit\ndef helper(x): return x\n@triton.autotune(configs=[], key=[])\n@triton.jit\ndef k(x): helper(x)\ndef run(x): k[(1,)](x)\n",
        "name = 'torch.matmul and torch.compile'\n",
        "from torch.utils.cpp_extension import load_inline\n_ = load_inline('a', '', is_python_module=False)\n",
        _model(
            "s = torch.cuda.Stream()\n        with torch.cuda.stream(s):\n            ext.f(x)\n        return x"
        ),
        _model(
            "return ext.softmax(x) + math.exp(1) + ops.sum(y)", top="import math, numpy as ops\next = load()"
        ),
        _model("self.graph.replay()\n        return self.out", init="self.graph = torch.cuda.CUDAGraph()"),
    ],
)
def test_an_honest_text_is_accused_of_nothing(source: str) -> None:
    assert _python(source) == set()


def test_low_types_mean_nothing_where_the_reference_uses_them() -> None:
    assert names_low_types(ast.parse("import torch\nx = torch.float16"))
    assert names_low_types(ast.parse("x = y.half()"))
    assert not names_low_types(ast.parse("'''half bfloat16'''\nx = y.float()"))
    assert _python(_model("return ext.f(x.half())"), low_types=True) == set()


def test_cpp_in_strings_is_read_with_the_lines_of_the_file_and_docstrings_are_not() -> None:
    source = 'x = 1\nsource = """\n#include <cublas_v2.h>\n__global__ void own() {}\n"""\n'
    reading = read_strings(ast.parse(source), low_types=False)
    assert [(found.code, found.line) for found in reading.findings] == [
        ("delegation.library", 3),
        ("provenance.decoy_kernel", 4),
    ]
    assert reading.kernels == ["own"]
    assert read_strings(ast.parse('"""\n#include <cublas_v2.h>\n"""'), low_types=False).findings == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("delegation.aten", "auto y = at::matmul(a, b);"),
        ("delegation.aten", "auto y = torch::nn::functional::relu(a);"),
        ("delegation.aten", "auto y = at::_ops::mm::call(a, b);"),
        ("delegation.aten", "auto f = &at::matmul;"),
        ("delegation.aten", "return a.matmul(b);"),
        ("delegation.library", "#include <cudnn.h>"),
        ("delegation.library", "#include <cutlass/gemm/device/gemm.h>"),
        ("delegation.library", "cublasGemmEx(handle, a);"),
        ("delegation.library", "cublasLtMatmul (handle, a);"),
        ("delegation.library", "cblas_sgemm(1);"),
        ("precision.low_types", "__half2 h = __float22half2_rn(x);"),
        ("precision.low_types", "x.to(at::kBFloat16);"),
        ("introspection", 'void* f = dlsym(dlopen("x", 1), "y");'),
        ("introspection", "#define J(a) cublas ## a"),
        ("fallback.try_except", "try { f(); } catch (...) { return at::mm(a, b); }"),
        ("provenance.decoy_kernel", "__global__ void __launch_bounds__(256, 2) k(float* x) { x[0] = 1; }"),
    ],
)
def test_what_cpp_does_is_found(code: str, text: str) -> None:
    assert code in {finding.code for finding in read_cpp([("a.cu", text)], low_types=False).findings}


@pytest.mark.parametrize(
    "text",
    [
        "// at::matmul(a, b) and cublasSgemm(h)\n/* #include <cudnn.h> */",
        'const char* text = "at::matmul(a); cublasSgemm(h)";',
        "__global__ void cublas_like(float* x) {}\nvoid f() { cublas_like<<<1, 2, 0, s>>>(x); }",
        "torch::Tensor y = torch::empty_like(x); y = y.contiguous().view({1}); at::cuda::getCurrentCUDAStream();",
        "template <int N> __global__ void k(float*);\nvoid f() { auto* p = &k<4>; }",
        '__global__ void k() {}\nvoid f() { cuModuleGetFunction(&g, m, "k"); }',
        "int half = n / 2; float relu = max(0.f, x); sum(x);",
        "try { f(); } catch (...) { throw; }\nauto y = torch::empty({1});",
    ],
)
def test_honest_cpp_is_accused_of_nothing(text: str) -> None:
    assert read_cpp([("a.cu", text)], low_types=False).findings == []


def test_names_of_kernels_operators_and_library_functions_are_kept() -> None:
    reading = read_cpp(
        [
            ("a.cu", 'extern "C" __global__ void __launch_bounds__(sizeof(int) * 4) first(int);\n'),
            ("b.cu", "namespace n { template <class T> static __global__ void second(T x) {} }"),
            (
                "c.cpp",
                "TORCH_LIBRARY(own, m) {}\nTORCH_LIBRARY_FRAGMENT(more, m) {}\nvoid f() { cudnnCreate(&h); }",
            ),
        ],
        low_types=False,
    )
    assert reading.kernels == ["first", "second"]
    assert reading.namespaces == ["own", "more"]
    assert reading.library_calls == ["cudnnCreate"]


def test_a_kernel_launched_from_another_file_is_no_decoy() -> None:
    texts = [
        ("a.cu", "__global__ void k() {}"),
        ("b.cu", "extern __global__ void k();\nvoid f() { k<<<1, 1>>>(); }"),
    ]
    assert read_cpp(texts, low_types=False).findings == []
