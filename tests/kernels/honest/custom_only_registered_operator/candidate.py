import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = """
#include <torch/library.h>
#include <torch/types.h>

torch::Tensor own_relu(const torch::Tensor& x) {
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const float* in = input.data_ptr<float>();
    float* out = output.data_ptr<float>();
    for (int64_t i = 0; i < input.numel(); ++i) out[i] = in[i] < 0.0f ? 0.0f : in[i];
    return output;
}

TORCH_LIBRARY(own_operators, m) { m.def("own_relu", &own_relu); }
"""

library = load_inline(name="own_operators", cpp_sources=source, is_python_module=False)


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.ops.own_operators.own_relu(x)
