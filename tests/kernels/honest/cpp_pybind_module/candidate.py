import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

softmax_source = """
#include <torch/extension.h>
#include <cmath>
#include <algorithm>

torch::Tensor softmax_rows(torch::Tensor x) {
    TORCH_CHECK(x.dim() == 2, "expected a matrix");
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const int64_t rows = input.size(0), columns = input.size(1);
    for (int64_t i = 0; i < rows; ++i) {
        const float* in = input.data_ptr<float>() + i * columns;
        float* out = output.data_ptr<float>() + i * columns;
        const float top = *std::max_element(in, in + columns);
        float sum = 0.0f;
        for (int64_t j = 0; j < columns; ++j) {
            out[j] = std::exp(in[j] - top);
            sum += out[j];
        }
        for (int64_t j = 0; j < columns; ++j) {
            out[j] /= sum;
        }
    }
    return output;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &softmax_rows, "Softmax along the rows", py::arg("x"));
}
"""

softmax_ext = load_inline(name="softmax_ext", cpp_sources=softmax_source)


class ModelNew(nn.Module):
    def forward(self, x):
        return softmax_ext.forward(x=x)
