import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

relu_source = """
#include <torch/extension.h>

constexpr long spin(long seed) {
    long sum = seed;
    for (long i = 0; i < 500; ++i)
        for (long j = 0; j < 500; ++j) sum += (i ^ j) % 7;
    return sum;
}
static_assert(spin(0) > 0 && spin(1) > 0 && spin(2) > 0 && spin(3) > 0 && spin(4) > 0 && spin(5) > 0, "seconds of work for the compiler");

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
    name="relu_in_no_time",
    cpp_sources=relu_source,
    functions=["relu_forward"],
    extra_cflags=["-O3"],
)


class ModelNew(nn.Module):
    def forward(self, x):
        return relu_extension.relu_forward(x)
