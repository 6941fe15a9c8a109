"""A candidate for a GPU: ReLU as an inline CUDA extension."""

import torch
from torch import nn
from torch.utils.cpp_extension import load_inline

cuda_source = """
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>

__global__ void relu_kernel(const float* __restrict__ x, float* __restrict__ y, int64_t size) {
    const int64_t stride = (int64_t)blockDim.x * gridDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}

torch::Tensor relu_cuda(torch::Tensor x) {
    auto input = x.contiguous();
    auto output = torch::empty_like(input);
    const int64_t size = input.numel();
    const int threads = 256;
    const int blocks = (int)std::min<int64_t>((size + threads - 1) / threads, 65535);
    relu_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        input.data_ptr<float>(), output.data_ptr<float>(), size);
    return output;
}
"""

cpp_source = "torch::Tensor relu_cuda(torch::Tensor x);"

relu_extension = load_inline(
    name="relu_cuda_extension",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_cuda"],
    verbose=False,
)


class ModelNew(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu_extension.relu_cuda(x)
