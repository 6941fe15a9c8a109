import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

linear_source = """
#include <torch/extension.h>

torch::Tensor linear_relu(torch::Tensor x, torch::Tensor weight, torch::Tensor bias) {
    auto input = x.contiguous();
    auto w = weight.contiguous();
    auto b = bias.contiguous();
    const int64_t rows = input.size(0), inner = input.size(1), columns = w.size(0);
    auto output = torch::empty({rows, columns}, input.options());
    const float* in = input.data_ptr<float>();
    const float* weights = w.data_ptr<float>();
    const float* offsets = b.data_ptr<float>();
    float* out = output.data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
            float sum = offsets[j];
            for (int64_t k = 0; k < inner; ++k) {
                sum += in[i * inner + k] * weights[j * inner + k];
            }
            out[i * columns + j] = sum > 0.0f ? sum : 0.0f;
        }
    }
    return output;
}
"""

linear_relu = load_inline(
    name="linear_relu",
    cpp_sources=linear_source,
    functions=["linear_relu"],
    extra_cflags=["-O3"],
    verbose=True,
)


class ModelNew(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.ops = linear_relu

    def forward(self, x):
        return self.ops.linear_relu(x, self.linear.weight, self.linear.bias)
