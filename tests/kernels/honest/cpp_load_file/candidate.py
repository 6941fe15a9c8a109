import os
import tempfile

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load

source = r"""
#include <torch/extension.h>

torch::Tensor add(torch::Tensor a, torch::Tensor b) {
    auto left = a.contiguous();
    auto right = b.contiguous();
    auto output = torch::empty_like(left);
    const float* x = left.data_ptr<float>();
    const float* y = right.data_ptr<float>();
    float* out = output.data_ptr<float>();
    for (int64_t i = 0; i < left.numel(); ++i) {
        out[i] = x[i] + y[i];
    }
    return output;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("add", &add, "Add two tensors");
}
"""

directory = tempfile.mkdtemp()
path = os.path.join(directory, "add.cpp")
with open(path, "w") as file:
    file.write(source)

add_ext = load(name="add_ext", sources=[path], extra_cflags=["-O3"], verbose=True)


class ModelNew(nn.Module):
    def forward(self, a, b):
        return add_ext.add(a, b)
