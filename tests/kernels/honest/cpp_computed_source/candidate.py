import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

ELEMENTWISE = """
#include <torch/extension.h>

torch::Tensor @NAME@_forward(torch::Tensor x) {
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const @TYPE@* in = input.data_ptr<@TYPE@>();
    @TYPE@* out = output.data_ptr<@TYPE@>();
    at::parallel_for(0, input.numel(), 32768, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            out[i] = @EXPRESSION@;
        }
    });
    return output;
}
"""


def elementwise(name, expression, scalar="float"):
    source = ELEMENTWISE
    for key, value in {"NAME": name, "TYPE": scalar, "EXPRESSION": expression}.items():
        source = source.replace(f"@{key}@", value)
    return source


ops = {
    name: load_inline(
        name=f"{name}_extension",
        cpp_sources=elementwise(name, expression),
        functions=[f"{name}_forward"],
        extra_cflags=["-O3"],
    )
    for name, expression in [("relu", "in[i] < 0.0f ? 0.0f : in[i]")]
}


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.op = ops["relu"].relu_forward

    def forward(self, x):
        return self.op(x)
