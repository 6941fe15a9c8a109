import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = """
#include <torch/extension.h>

// Declared, and defined nowhere.
void launch_relu(const float* in, float* out, int64_t size);

torch::Tensor relu_forward(torch::Tensor x) {
    auto output = torch::empty_like(x);
    launch_relu(x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
    return output;
}
"""

relu_extension = load_inline(name="relu_launcher", cpp_sources=source, functions=["relu_forward"])


class ModelNew(nn.Module):
    def forward(self, x):
        return relu_extension.relu_forward(x)
