import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = """
#include <torch/extension.h>

torch::Tensor relu_forward(torch::Tensor x) {
    auto output = torch::empty_like(x);
    const float* in = x.data_ptr<float>();
    float* out = output.data_ptr<float>();
    for (int64_t i = 0; i < x.numel(); ++i) {
        out[i] = fmaxf(in[i], zero);
    }
    return output;
}
"""

relu_extension = load_inline(name="relu_undeclared", cpp_sources=source, functions=["relu_forward"])


class ModelNew(nn.Module):
    def forward(self, x):
        return relu_extension.relu_forward(x)
