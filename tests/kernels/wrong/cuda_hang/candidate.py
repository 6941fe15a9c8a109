import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cuda_source = """
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <cassert>

__global__ void shifted_copy(const float* x, float* y, int64_t size, int64_t shift) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = x[i + shift];
}

__global__ void checked_copy(const float* x, float* y, int64_t size, float limit) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) {
        assert(x[i] < limit);
        y[i] = x[i];
    }
}

__global__ void wait_copy(const float* x, float* y, int64_t size, int64_t cycles) {
    const int64_t start = clock64();
    while (clock64() - start < cycles) { }
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = fmaxf(x[i], 0.0f);
}

torch::Tensor shifted(torch::Tensor x, int64_t shift) {
    auto y = torch::empty_like(x);
    shifted_copy<<<(x.numel() + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), x.numel(), shift);
    return y;
}

torch::Tensor checked(torch::Tensor x, double limit) {
    auto y = torch::empty_like(x);
    checked_copy<<<(x.numel() + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), x.numel(), (float)limit);
    return y;
}

torch::Tensor waiting(torch::Tensor x, int64_t cycles) {
    auto y = torch::empty_like(x);
    wait_copy<<<32, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), x.numel(), cycles);
    return y;
}
"""

cpp_source = """
torch::Tensor shifted(torch::Tensor x, int64_t shift);
torch::Tensor checked(torch::Tensor x, double limit);
torch::Tensor waiting(torch::Tensor x, int64_t cycles);
"""

copies = load_inline(
    name="copies",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["shifted", "checked", "waiting"],
)


class ModelNew(nn.Module):
    def forward(self, x):
        # Waits for a flag that nobody raises; bounded to some ten seconds so that any GPU gets free again.
        return copies.waiting(x, 20_000_000_000)
