"""ReLU without torch.relu, torch.compile, F.softmax, cublasSgemm or x.half(); see also gc, inspect, sys.modules."""

import torch
from torch import nn
from torch.utils.cpp_extension import load_inline

relu_source = """
#include <torch/extension.h>

torch::Tensor relu_forward(torch::Tensor x) {
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const float* in = input.data_ptr<float>();
    float* out = output.data_ptr<float>();
    at::parallel_for(0, input.numel(), 32768, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            out[i] = in[i] < 0.0f ? 0.0f : in[i];
        }
    });
    return output;
}
"""

relu_extension = load_inline(
    name="relu_extension",
    cpp_sources=relu_source,
    functions=["relu_forward"],
    extra_cflags=["-O3"],
    verbose=False,
)



def cublas_like(x):
    """Not at::relu(x): try: ... except: return torch.relu(x)"""
    return relu_extension.relu_forward(x)  # torch.relu(x), from reference import Model


class ModelNew(nn.Module):
    """Does what `torch.nn.functional.relu` does; exec("import ctypes") is no part of it."""

    note = "torch.ops.aten.relu(x); #include <cudnn.h>"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.contiguous().view(-1)
        out = torch.empty(x.shape)
        out.view(-1).copy_(cublas_like(flat))
        return out
