import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

row_ops_source = """
#include <torch/extension.h>

torch::Tensor scale(torch::Tensor x, double factor) {
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const float* in = input.data_ptr<float>();
    float* out = output.data_ptr<float>();
    const float f = static_cast<float>(factor);
    const int64_t size = input.numel();
    for (int64_t i = 0; i < size; ++i) {
        out[i] = in[i] * f;
    }
    return output;
}

torch::Tensor gather_rows(torch::Tensor table, torch::Tensor index) {
    auto rows = table.contiguous();
    auto picks = index.contiguous();
    const int64_t width = rows.size(1);
    auto output = torch::empty({picks.size(0), width}, rows.options());
    const float* in = rows.data_ptr<float>();
    const int64_t* pick = picks.data_ptr<int64_t>();
    float* out = output.data_ptr<float>();
    for (int64_t i = 0; i < picks.size(0); ++i) {
        const float* row = in + pick[i] * width;
        for (int64_t j = 0; j < width; ++j) {
            out[i * width + j] = row[j];
        }
    }
    return output;
}
"""

row_ops = load_inline(
    name="row_ops",
    cpp_sources=[row_ops_source],
    functions=["scale", "gather_rows"],
    extra_cflags=["-O2"],
    verbose=False,
)


class ModelNew(nn.Module):
    def forward(self, table, index):
        return row_ops.gather_rows(table, index)
