"""A set like KernelBench's: 66 problems of three levels, each with an honest candidate in Triton and, where it is short, in CUDA.

python tests/kernelbench/make.py OUT            sizes for a GPU
python tests/kernelbench/make.py OUT --small    sizes for Triton's interpreter on a CPU
keck batch OUT OUT --device cuda --report OUT/report

Sample 0 of a problem is Triton, sample 1 CUDA. Nothing here is fast on purpose, or slow: it is what one writes first.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LARGE = {"ROWS": 4096, "COLUMNS": 4096, "M": 2048, "K": 1024, "N": 1536, "BATCH": 16, "CHANNELS": 64, "OUT": 96,
         "SIDE": 56, "HEADS": 8, "LENGTH": 1024, "WIDTH": 64}  # fmt: skip
SMALL = {"ROWS": 5, "COLUMNS": 70, "M": 33, "K": 40, "N": 50, "BATCH": 2, "CHANNELS": 4, "OUT": 6,
         "SIDE": 7, "HEADS": 2, "LENGTH": 37, "WIDTH": 16}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem and its candidates."""

    level: int
    name: str
    group: str
    model: str
    """Body of the class, indented by four."""
    inputs: str
    triton: str
    """Kernels, and the body of ModelNew after the line ``---``."""
    cuda: str = ""
    init: str = ""


# --- Triton: what several candidates are made of

_POINTWISE = """\
@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n){cast}
    tl.store(out_ptr + at, {expression}, mask=at < n)
---
    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        kernel[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
"""
_ROWWISE = """\
@triton.jit
def kernel(x_ptr, {extra}out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other={other}).to(tl.float32)
    {body}
    tl.store({where}, {result}{mask})
---
{init}    def forward(self, x):
        x = x.contiguous()
        columns = {columns}
        rows = x.numel() // columns
        out = {out}
        kernel[(rows,)](x, {given}out, columns, BLOCK=triton.next_power_of_2(columns))
        return out
"""
_MATMUL = """\
@triton.jit
def kernel(a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K: tl.constexpr, a_batch, a_row, a_column, b_batch, b_row, b_column,
           HAS_BIAS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    batch = tl.program_id(2)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        inner = start + tl.arange(0, BK)
        a = tl.load(a_ptr + batch * a_batch + rows[:, None] * a_row + inner[None, :] * a_column,
                    mask=(rows[:, None] < M) & (inner[None, :] < K), other=0.0)
        b = tl.load(b_ptr + batch * b_batch + inner[:, None] * b_row + columns[None, :] * b_column,
                    mask=(inner[:, None] < K) & (columns[None, :] < N), other=0.0)
        total += tl.dot(a, b, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias_ptr + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    x = total
    tl.store(out_ptr + batch * M * N + rows[:, None] * N + columns[None, :], {epilogue},
             mask=(rows[:, None] < M) & (columns[None, :] < N))


def product(a, b, bias=None):
    \"\"\"a @ b (+ bias), for two or three dimensions of any strides.\"\"\"
    batches = a.shape[0] if a.dim() == 3 else 1
    M, K, N = a.shape[-2], a.shape[-1], b.shape[-1]
    out = torch.empty(*a.shape[:-2], M, N, device=a.device, dtype=a.dtype)
    strides = [part for x in (a, b) for part in (x.stride(0) if x.dim() == 3 else 0, x.stride(-2), x.stride(-1))]
    kernel[(triton.cdiv(M, 64), triton.cdiv(N, 64), batches)](
        a, b, bias if bias is not None else a, out, M, N, K, *strides,
        HAS_BIAS=bias is not None, BM=64, BN=64, BK=32)
    return out
---
"""
_CONVOLUTION = """\
@triton.jit
def kernel(x_ptr, w_ptr, bias_ptr, out_ptr, channels: tl.constexpr, outs, groups_out, H, W, OH, OW,
           KH: tl.constexpr, KW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, BLOCK: tl.constexpr):
    image, out_channel = tl.program_id(1) // outs, tl.program_id(1) % outs
    first = (out_channel // groups_out) * channels
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row, column = at // OW, at % OW
    total = tl.zeros((BLOCK,), dtype=tl.float32) + tl.load(bias_ptr + out_channel)
    all_channels = channels * (outs // groups_out)
    for channel in range(channels):
        for kh in tl.static_range(KH):
            for kw in tl.static_range(KW):
                y, z = row + kh - PH, column + kw - PW
                inside = (y >= 0) & (y < H) & (z >= 0) & (z < W) & (at < OH * OW)
                x = tl.load(x_ptr + ((image * all_channels + first + channel) * H + y) * W + z, mask=inside, other=0.0)
                total += x * tl.load(w_ptr + ((out_channel * channels + channel) * KH + kh) * KW + kw)
    x = total
    tl.store(out_ptr + tl.program_id(1) * OH * OW + at, {epilogue}, mask=at < OH * OW)


def convolution(x, layer):
    \"\"\"A layer's convolution, of stride one.\"\"\"
    x, weight, bias = x.contiguous(), layer.weight.contiguous(), layer.bias
    height = x.shape[2] if x.dim() == 4 else 1
    kh = weight.shape[2] if x.dim() == 4 else 1
    kw, pw = weight.shape[-1], layer.padding[-1]
    ph = layer.padding[0] if x.dim() == 4 else 0
    oh, ow = height + 2 * ph - kh + 1, x.shape[-1] + 2 * pw - kw + 1
    outs = weight.shape[0]
    out = torch.empty(x.shape[0], outs, oh, ow, device=x.device, dtype=x.dtype)
    kernel[(triton.cdiv(oh * ow, 256), x.shape[0] * outs)](
        x, weight, bias, out, weight.shape[1], outs, outs // layer.groups, height, x.shape[-1], oh, ow,
        KH=kh, KW=kw, PH=ph, PW=pw, BLOCK=256)
    return out if x.dim() == 4 else out.squeeze(2)
---
"""
_ATTENTION = """\
@triton.jit
def kernel(q_ptr, k_ptr, v_ptr, out_ptr, length: tl.constexpr, scale, CAUSAL: tl.constexpr, D: tl.constexpr,
           BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1) * length * D
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    depth = tl.arange(0, D)
    q = tl.load(q_ptr + head + rows[:, None] * D + depth[None, :], mask=rows[:, None] < length, other=0.0)
    highest = tl.full((BM,), -float("inf"), dtype=tl.float32)
    weight = tl.zeros((BM,), dtype=tl.float32)
    total = tl.zeros((BM, D), dtype=tl.float32)
    for start in range(0, length, BN):
        keys = start + tl.arange(0, BN)
        k = tl.load(k_ptr + head + keys[None, :] * D + depth[:, None], mask=keys[None, :] < length, other=0.0)
        v = tl.load(v_ptr + head + keys[:, None] * D + depth[None, :], mask=keys[:, None] < length, other=0.0)
        score = tl.dot(q, k, input_precision="ieee") * scale
        allowed = keys[None, :] < length
        if CAUSAL:
            allowed = allowed & (keys[None, :] <= rows[:, None])
        score = tl.where(allowed, score, -1e30)
        now = tl.maximum(highest, tl.max(score, axis=1))
        share = tl.exp(score - now[:, None])
        kept = tl.exp(highest - now)
        weight = weight * kept + tl.sum(share, axis=1)
        total = total * kept[:, None] + tl.dot(share.to(v.dtype), v, input_precision="ieee")
        highest = now
    tl.store(out_ptr + head + rows[:, None] * D + depth[None, :], total / weight[:, None], mask=rows[:, None] < length)


def attention(q, k, v, causal):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    *heads, length, depth = q.shape
    out = torch.empty_like(q)
    count = q.numel() // (length * depth)
    kernel[(triton.cdiv(length, 32), count)](
        q, k, v, out, length, depth**-0.5, CAUSAL=causal, D=depth, BM=32, BN=32)
    return out
---
"""

# --- CUDA

_CUDA = '''\
import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>

{kernel}
"""

extension = load_inline(
    name="{name}", cpp_sources="torch::Tensor run(torch::Tensor x);", cuda_sources=source, functions=["run"]
)


class ModelNew(nn.Module):
    def forward(self, x):
        return extension.run(x)
'''
_CUDA_POINTWISE = """\
__global__ void kernel(const float* in, float* out, int64_t n) {{
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < n) {{
        const float x = in[i];
        out[i] = {expression};
    }}
}}

torch::Tensor run(torch::Tensor x) {{
    x = x.contiguous();
    auto out = torch::empty_like(x);
    const int64_t n = x.numel();
    kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), out.data_ptr<float>(), n);
    return out;
}}"""
_CUDA_ROWWISE = """\
__device__ float join(float a, float b) {{ return {join}; }}

__global__ void kernel(const float* in, float* out, int columns) {{
    __shared__ float parts[256];
    const float* row = in + (int64_t)blockIdx.x * columns;
    float mine = {start};
    for (int i = threadIdx.x; i < columns; i += 256) {{
        const float x = row[i];
        mine = join(mine, {of});
    }}
    parts[threadIdx.x] = mine;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {{
        if (threadIdx.x < step) parts[threadIdx.x] = join(parts[threadIdx.x], parts[threadIdx.x + step]);
        __syncthreads();
    }}
    if (threadIdx.x == 0) {{
        const float x = parts[0];
        out[blockIdx.x] = {result};
    }}
}}

torch::Tensor run(torch::Tensor x) {{
    x = x.contiguous();
    const int columns = x.size(-1);
    auto out = torch::empty({{x.size(0)}}, x.options());
    kernel<<<x.size(0), 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), out.data_ptr<float>(), columns);
    return out;
}}"""

# --- the problems


def pointwise() -> list[Problem]:
    sig, tanh = "1.0 / (1.0 + tl.exp(-x))", "(2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0)"
    soft = "(tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x))))"
    csoft = "(fmaxf(x, 0.f) + log1pf(expf(-fabsf(x))))"
    table = {  # PyTorch, Triton, CUDA
        "ReLU": ("torch.relu(x)", "tl.maximum(x, 0.0)", "fmaxf(x, 0.f)"),
        "LeakyReLU": ("F.leaky_relu(x, 0.1)", "tl.where(x > 0, x, 0.1 * x)", "x > 0.f ? x : 0.1f * x"),
        "Sigmoid": ("torch.sigmoid(x)", sig, "1.f / (1.f + expf(-x))"),
        "Tanh": ("torch.tanh(x)", tanh, "tanhf(x)"),
        "Swish": ("x * torch.sigmoid(x)", f"x * ({sig})", "x / (1.f + expf(-x))"),
        "GELU": ("F.gelu(x)", "0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))",
                 "0.5f * x * (1.f + erff(x * 0.70710678f))"),
        "SELU": ("F.selu(x)", "1.0507009873554805 * tl.where(x > 0, x, 1.6732632423543772 * (tl.exp(x) - 1.0))",
                 "1.05070099f * (x > 0.f ? x : 1.67326324f * expm1f(x))"),
        "ELU": ("F.elu(x)", "tl.where(x > 0, x, tl.exp(x) - 1.0)", "x > 0.f ? x : expm1f(x)"),
        "HardSigmoid": ("F.hardsigmoid(x)", "tl.minimum(tl.maximum(x / 6.0 + 0.5, 0.0), 1.0)",
                        "fminf(fmaxf(x / 6.f + 0.5f, 0.f), 1.f)"),
        "HardSwish": ("F.hardswish(x)", "x * tl.minimum(tl.maximum(x / 6.0 + 0.5, 0.0), 1.0)",
                      "x * fminf(fmaxf(x / 6.f + 0.5f, 0.f), 1.f)"),
        "Softplus": ("F.softplus(x)", soft, csoft),
        "Softsign": ("F.softsign(x)", "x / (1.0 + tl.abs(x))", "x / (1.f + fabsf(x))"),
        "HardTanh": ("F.hardtanh(x)", "tl.minimum(tl.maximum(x, -1.0), 1.0)", "fminf(fmaxf(x, -1.f), 1.f)"),
        "Square": ("x * x", "x * x", "x * x"),
        "Absolute": ("torch.abs(x)", "tl.abs(x)", "fabsf(x)"),
        "LogSigmoid": ("F.logsigmoid(x)", "-(tl.maximum(-x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x))))",
                       "-(fmaxf(-x, 0.f) + log1pf(expf(-fabsf(x))))"),
        "Mish": ("F.mish(x)", f"x * (2.0 / (1.0 + tl.exp(-2.0 * {soft})) - 1.0)", f"x * tanhf({csoft})"),
        "ReLU6": ("F.relu6(x)", "tl.minimum(tl.maximum(x, 0.0), 6.0)", "fminf(fmaxf(x, 0.f), 6.f)"),
        "TanhShrink": ("F.tanhshrink(x)", f"x - {tanh}", "x - tanhf(x)"),
    }  # fmt: skip
    found = [
        Problem(
            level=1, name=name, group="elementwise", model=_forward("x", torch), inputs="torch.randn(ROWS, COLUMNS)",
            triton=_POINTWISE.format(cast=".to(tl.float32)", expression=ours),
            cuda=_CUDA_POINTWISE.format(expression=cuda),
        )
        for name, (torch, ours, cuda) in table.items()
    ]  # fmt: skip
    gelu, swish = table["GELU"], table["Swish"]
    for name, (torch, ours, _), draw in (
        ("GELU_half", gelu, "torch.randn(ROWS, COLUMNS).half()"),
        ("Swish_bfloat16", swish, "torch.randn(ROWS, COLUMNS).bfloat16()"),
    ):
        found.append(
            Problem(level=1, name=name, group="elementwise", model=_forward("x", torch), inputs=draw,
                    triton=_POINTWISE.format(cast=".to(tl.float32)", expression=ours))
        )  # fmt: skip
    found.append(
        Problem(level=1, name="Shift_and_mask_int32", group="elementwise", model=_forward("x", "(x << 2) ^ (x & 5)"),
                inputs="torch.randint(-1000, 1000, (ROWS, COLUMNS), dtype=torch.int32)",
                triton=_POINTWISE.format(cast="", expression="(x << 2) ^ (x & 5)"))
    )  # fmt: skip
    return found


def rowwise(
    name: str, group: str, torch: str, *, level: int = 1, body: str, result: str, to: str = "row", other: str = "0.0",
    out: str = "", draw: str = "torch.randn(ROWS, COLUMNS)", columns: str = "x.shape[-1]", cuda: str = "",
    layer: str = "", extra: str = "", given: str = "",
) -> Problem:  # fmt: skip
    """A problem of which one program does one row: of `to` ``row`` one number comes out, of ``all`` the row."""
    whole = to == "all"
    init = f"    def __init__(self):\n        super().__init__()\n{layer}\n\n" if layer else ""
    source = _ROWWISE.format(
        extra=extra, given=given, other=other, body="\n    ".join(body.splitlines()), result=result, columns=columns,
        where="out_ptr + row * columns + at" if whole else "out_ptr + row", mask=", mask=inside" if whole else "",
        out=out or ("torch.empty_like(x)" if whole else "torch.empty(x.shape[:-1], device=x.device, dtype=x.dtype)"),
        init=init,
    )  # fmt: skip
    return Problem(
        level=level, name=name, group=group, model=init + _forward("x", torch), inputs=draw, triton=source, cuda=cuda
    )  # fmt: skip


def reductions() -> list[Problem]:
    def cuda(start: str, join: str, of: str = "x", result: str = "x") -> str:
        return _CUDA_ROWWISE.format(start=start, join=join, of=of, result=result)

    shifted = "top = tl.max(x, axis=0)\ne = tl.where(inside, tl.exp(x - top), 0.0)"
    centred = "mean = tl.sum(x, axis=0) / columns\nd = tl.where(inside, x - mean, 0.0)"
    kind, low, high = "reduction", '-float("inf")', 'float("inf")'
    return [
        rowwise("Sum", kind, "x.sum(-1)", body="y = tl.sum(x, axis=0)", result="y", cuda=cuda("0.f", "a + b")),
        rowwise("Mean", kind, "x.mean(-1)", body="y = tl.sum(x, axis=0) / columns", result="y",
                cuda=cuda("0.f", "a + b", result="x / columns")),
        rowwise("Max", kind, "x.amax(-1)", body="y = tl.max(x, axis=0)", result="y", other=low,
                cuda=cuda("-INFINITY", "fmaxf(a, b)")),
        rowwise("Min", kind, "x.amin(-1)", body="y = tl.min(x, axis=0)", result="y", other=high,
                cuda=cuda("INFINITY", "fminf(a, b)")),
        rowwise("L2_norm", kind, "x.norm(dim=-1)", body="y = tl.sqrt(tl.sum(x * x, axis=0))", result="y",
                cuda=cuda("0.f", "a + b", of="x * x", result="sqrtf(x)")),
        rowwise("Mean_absolute", kind, "x.abs().mean(-1)", body="y = tl.sum(tl.abs(x), axis=0) / columns", result="y",
                cuda=cuda("0.f", "a + b", of="fabsf(x)", result="x / columns")),
        rowwise("LogSumExp", kind, "torch.logsumexp(x, -1)", body=shifted, other=low,
                result="top + tl.log(tl.sum(e, axis=0))"),
        rowwise("Variance", kind, "x.var(-1, unbiased=False)", body=centred, result="tl.sum(d * d, axis=0) / columns"),
        rowwise("Argmax", kind, "x.argmax(-1)", body="y = tl.argmax(x, axis=0)", result="y", other=low,
                out="torch.empty(x.shape[:-1], device=x.device, dtype=torch.int64)"),
        rowwise("Softmax", kind, "torch.softmax(x, -1)", body=shifted, other=low, to="all",
                result="e / tl.sum(e, axis=0)"),
        rowwise("LogSoftmax", kind, "torch.log_softmax(x, -1)", body=shifted, other=low, to="all",
                result="x - top - tl.log(tl.sum(e, axis=0))"),
    ]  # fmt: skip


def norms() -> list[Problem]:
    centred = "mean = tl.sum(x, axis=0) / columns\nd = tl.where(inside, x - mean, 0.0)\n"
    spread = centred + "s = tl.rsqrt(tl.sum(d * d, axis=0) / columns + 1e-5)\n"
    scaled = spread + "w = tl.load(w_ptr + at, mask=inside)\nb = tl.load(b_ptr + at, mask=inside)\n"
    image = "torch.randn(BATCH, CHANNELS, SIDE, SIDE)"
    layer = "        self.layer = nn.LayerNorm(COLUMNS)\n        nn.init.normal_(self.layer.weight)"
    gain = "        self.gain = nn.Parameter(torch.rand(COLUMNS))"
    batch = ("        self.layer = nn.BatchNorm2d(CHANNELS).eval()\n        nn.init.normal_(self.layer.running_mean)\n"
             "        nn.init.uniform_(self.layer.running_var, 0.5, 2.0)")  # fmt: skip
    channel = "c = row % channels\nm = tl.load(m_ptr + c)\nv = tl.load(v_ptr + c)"
    return [
        rowwise("LayerNorm", "norm", "self.layer(x)", body=scaled, result="d * s * w + b", to="all", layer=layer,
                extra="w_ptr, b_ptr, ", given="self.layer.weight, self.layer.bias, "),
        rowwise("RMSNorm", "norm", "x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gain", to="all",
                body="s = tl.rsqrt(tl.sum(x * x, axis=0) / columns + 1e-5)\nw = tl.load(w_ptr + at, mask=inside)",
                result="x * s * w", layer=gain, extra="w_ptr, ", given="self.gain, "),
        rowwise("L1_normalise", "norm", "x / x.abs().sum(-1, keepdim=True)", to="all",
                body="s = tl.sum(tl.abs(x), axis=0)", result="x / s"),
        rowwise("L2_normalise", "norm", "x / x.norm(dim=-1, keepdim=True)", to="all",
                body="s = tl.sqrt(tl.sum(x * x, axis=0))", result="x / s"),
        rowwise("InstanceNorm", "norm", "F.instance_norm(x)", body=spread, result="d * s", to="all", draw=image,
                columns="x.shape[-1] * x.shape[-2]"),
        rowwise("GroupNorm", "norm", "F.group_norm(x, CHANNELS // 4)", body=spread, result="d * s", to="all", draw=image,
                columns="x[0].numel() // (CHANNELS // 4)"),
        rowwise("BatchNorm_inference", "norm", "self.layer(x)", body=channel, result="(x - m) * tl.rsqrt(v + 1e-5)",
                to="all", draw=image, columns="x.shape[-1] * x.shape[-2]", layer=batch,
                extra="m_ptr, v_ptr, channels, ", given="self.layer.running_mean, self.layer.running_var, x.shape[1], "),
    ]  # fmt: skip


def matmuls() -> list[Problem]:
    def one(name: str, torch: str, draws: str, *, suffix: str = "", ours: str = "") -> Problem:
        body = f"    def forward(self, a, b):\n        return {ours or 'product(a, b)'}\n"
        return Problem(level=1, name=name, group="matmul", model=_forward("a, b", torch), inputs=draws + suffix,
                       triton=_MATMUL.replace("{epilogue}", "x") + body)  # fmt: skip

    rect = "torch.randn(M, K), torch.randn(K, N)"
    return [
        one("Square_matrix_multiplication", "a @ b", "torch.randn(M, M), torch.randn(M, M)"),
        one("Matrix_multiplication", "a @ b", rect),
        one(
            "Matmul_transposed_A",
            "a.t() @ b",
            "torch.randn(K, M), torch.randn(K, N)",
            ours="product(a.t(), b)",
        ),
        one(
            "Matmul_transposed_B",
            "a @ b.t()",
            "torch.randn(M, K), torch.randn(N, K)",
            ours="product(a, b.t())",
        ),
        one(
            "Batched_matmul",
            "torch.bmm(a, b)",
            "torch.randn(BATCH, 2 * SIDE, K), torch.randn(BATCH, K, 2 * SIDE)",
        ),
        one("Matrix_vector", "a @ b", "torch.randn(M, K), torch.randn(K, 1)"),
        one("Matmul_half", "a @ b", "torch.randn(M, K).half(), torch.randn(K, N).half()"),
        one("Matmul_bfloat16", "a @ b", "torch.randn(M, K).bfloat16(), torch.randn(K, N).bfloat16()"),
    ]


def convolutions() -> list[Problem]:
    def one(name: str, layer: str, draw: str) -> Problem:
        init = f"    def __init__(self):\n        super().__init__()\n        self.layer = {layer}\n\n"
        return Problem(
            level=1, name=name, group="conv", model=init + _forward("x", "self.layer(x)"), inputs=draw,
            triton=_CONVOLUTION.replace("{epilogue}", "x") + init + _forward("x", "convolution(x, self.layer)"),
        )  # fmt: skip

    image = "torch.randn(BATCH, CHANNELS, SIDE, SIDE)"
    return [
        one("Conv2D_pointwise", "nn.Conv2d(CHANNELS, OUT, 1)", image),
        one("Conv2D_3x3", "nn.Conv2d(CHANNELS, OUT, 3, padding=1)", image),
        one("Conv2D_3x5_asymmetric", "nn.Conv2d(CHANNELS, OUT, (3, 5), padding=(1, 0))", image),
        one("Conv2D_depthwise", "nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)", image),
        one("Conv1D", "nn.Conv1d(CHANNELS, OUT, 3, padding=1)", "torch.randn(BATCH, CHANNELS, LENGTH)"),
    ]


def attentions() -> list[Problem]:
    def one(name: str, causal: bool, suffix: str = "") -> Problem:
        draw = f"torch.randn(BATCH // 2, HEADS, LENGTH, WIDTH){suffix}"
        return Problem(
            level=1, name=name, group="attention", inputs=", ".join([draw] * 3),
            model=_forward("q, k, v", f"F.scaled_dot_product_attention(q, k, v, is_causal={causal})"),
            triton=_ATTENTION + _forward("q, k, v", f"attention(q, k, v, {causal})"),
        )  # fmt: skip

    return [
        one("Attention", causal=False),
        one("Attention_causal", causal=True),
        one("Attention_half", causal=False, suffix=".half()"),
    ]


def fusions() -> list[Problem]:
    linear = "    def __init__(self):\n        super().__init__()\n        self.linear = nn.Linear(K, N)\n\n"
    given = "product(x, self.linear.weight.t(), self.linear.bias)"
    gelu = "0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))"
    swish = "x / (1.0 + tl.exp(-x))"

    def gemm(name: str, torch: str, epilogue: str) -> Problem:
        return Problem(level=2, name=name, group="matmul", model=linear + _forward("x", torch),
                       inputs="torch.randn(M, K)",
                       triton=_MATMUL.replace("{epilogue}", epilogue) + linear + _forward("x", given))  # fmt: skip

    conv = ("    def __init__(self):\n        super().__init__()\n"
            "        self.layer = nn.Conv2d(CHANNELS, OUT, 3, padding=1)\n\n")  # fmt: skip
    image = "torch.randn(BATCH, CHANNELS, SIDE, SIDE)"
    masked = ("allowed = at <= row % columns\nx = tl.where(inside & allowed, x * 0.125, -1e30)\n"
              "e = tl.where(inside & allowed, tl.exp(x - tl.max(x, axis=0)), 0.0)")  # fmt: skip
    causal = "torch.softmax((x * 0.125).masked_fill(torch.ones_like(x).triu(1).bool(), float('-inf')), -1)"
    loss = "y = tl.max(x, axis=0)\ny += tl.log(tl.sum(tl.where(inside, tl.exp(x - y), 0.0), axis=0))"
    return [
        gemm("Gemm_ReLU", "torch.relu(self.linear(x))", "tl.maximum(x, 0.0)"),
        gemm("Gemm_GELU_scale", "F.gelu(self.linear(x)) * 0.5", f"0.5 * {gelu}"),
        gemm("Gemm_Swish", "F.silu(self.linear(x))", swish),
        gemm("Gemm_clamp", "self.linear(x).clamp(-0.5, 0.5)", "tl.minimum(tl.maximum(x, -0.5), 0.5)"),
        Problem(level=2, name="Conv2D_ReLU", group="conv", model=conv + _forward("x", "torch.relu(self.layer(x))"),
                inputs=image, triton=_CONVOLUTION.replace("{epilogue}", "tl.maximum(x, 0.0)") + conv
                + _forward("x", "convolution(x, self.layer)")),
        Problem(level=2, name="Conv2D_HardSwish", group="conv", inputs=image,
                model=conv + _forward("x", "F.hardswish(self.layer(x))"),
                triton=_CONVOLUTION.replace("{epilogue}", "x * tl.minimum(tl.maximum(x / 6.0 + 0.5, 0.0), 1.0)") + conv
                + _forward("x", "convolution(x, self.layer)")),
        rowwise("Scaled_causal_softmax", "reduction", causal, level=2, body=masked, result="e / tl.sum(e, axis=0)",
                to="all", draw="torch.randn(BATCH, LENGTH, LENGTH)"),
        rowwise("Negative_log_likelihood_of_first", "reduction", "-torch.log_softmax(x, -1)[:, 0]", level=2, body=loss,
                other='-float("inf")', result="y - tl.load(x_ptr + row * columns)"),
    ]  # fmt: skip


def models() -> list[Problem]:
    mlp = ("    def __init__(self):\n        super().__init__()\n        self.layers = nn.ModuleList(\n"
           "            [nn.Linear(K, N), nn.Linear(N, N), nn.Linear(N, K)])\n\n")  # fmt: skip
    heads = ("    def __init__(self):\n        super().__init__()\n        self.qkv = nn.Linear(HEADS * WIDTH, 3 * HEADS * WIDTH)\n"
             "        self.out = nn.Linear(HEADS * WIDTH, HEADS * WIDTH)\n\n    def forward(self, x):\n"
             "        b, t, c = x.shape\n        parts = self.qkv(x).view(b, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)\n"
             "        y = {how}\n        return x + self.out(y.transpose(1, 2).reshape(b, t, c))\n")  # fmt: skip
    ours = ("    def forward(self, x):\n        for layer in self.layers:\n"
            "            x = product(x, layer.weight.t(), layer.bias)\n        return x\n")  # fmt: skip
    theirs = ("    def forward(self, x):\n        for layer in self.layers:\n            x = torch.relu(layer(x))\n"
              "        return x\n")  # fmt: skip
    return [
        Problem(level=3, name="MLP", group="matmul", model=mlp + theirs, inputs="torch.randn(M, K)",
                triton=_MATMUL.replace("{epilogue}", "tl.maximum(x, 0.0)") + mlp + ours),
        Problem(level=3, name="SelfAttentionBlock", group="attention", inputs="torch.randn(BATCH // 2, LENGTH, HEADS * WIDTH)",
                model=heads.format(how="F.scaled_dot_product_attention(*parts, is_causal=True)"),
                triton=_ATTENTION + heads.format(how="attention(*parts, True)")),
    ]  # fmt: skip


def problems() -> list[Problem]:
    """All of them, by level."""
    parts = (pointwise, reductions, norms, matmuls, convolutions, attentions, fusions, models)
    return [problem for part in parts for problem in part()]


def _forward(arguments: str, expression: str) -> str:
    return f"    def forward(self, {arguments}):\n        return {expression}\n"


def files(sizes: Mapping[str, int]) -> dict[str, str]:
    """The text of every file by its path."""
    constants = "".join(f"{name} = {value}\n" for name, value in sizes.items())
    head = f"import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n{constants}\n\n"
    triton_head = head.replace(
        "import torch\n", "import torch\nimport triton\nimport triton.language as tl\n", 1
    )
    texts: dict[str, str] = {}
    numbers: dict[int, int] = {}
    for problem in problems():
        number = numbers[problem.level] = numbers.get(problem.level, 0) + 1
        stem = f"level_{problem.level}_problem_{number}"
        draws = f"\n\ndef get_inputs():\n    return [{problem.inputs}]\n\n\ndef get_init_inputs():\n    return []\n"
        texts[f"level{problem.level}/{number}_{problem.name}.py"] = (
            f"{head}class Model(nn.Module):\n{problem.model}{draws}"
        )
        kernels, _, body = problem.triton.partition("---\n")
        texts[f"generations/{stem}_sample_0_kernel.py"] = (
            f"{triton_head}{kernels}\n\nclass ModelNew(nn.Module):\n{body}"
        )
        if problem.cuda:
            name = f"{problem.name.lower()}_extension"
            texts[f"generations/{stem}_sample_1_kernel.py"] = _CUDA.format(kernel=problem.cuda, name=name)
    return texts


def write(folder: Path, sizes: Mapping[str, int]) -> None:
    """Write the set into a folder."""
    for name, text in files(sizes).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    write(given.folder, SMALL if given.small else LARGE)
