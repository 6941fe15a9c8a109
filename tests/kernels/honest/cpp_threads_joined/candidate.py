import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

gemm_source = """
#include <torch/extension.h>
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

// C = A B in row blocks of 32 and inner blocks of 64, the inner loop over contiguous columns.
static void gemm_rows(
    const float* a, const float* b, float* c, int64_t first, int64_t last, int64_t inner, int64_t columns) {
    constexpr int64_t kRows = 32, kInner = 64;
    std::fill(c + first * columns, c + last * columns, 0.0f);
    for (int64_t i0 = first; i0 < last; i0 += kRows) {
        for (int64_t k0 = 0; k0 < inner; k0 += kInner) {
            for (int64_t i = i0; i < std::min(i0 + kRows, last); ++i) {
                for (int64_t k = k0; k < std::min(k0 + kInner, inner); ++k) {
                    const float factor = a[i * inner + k];
                    const float* row = b + k * columns;
                    float* out = c + i * columns;
                    for (int64_t j = 0; j < columns; ++j) out[j] += factor * row[j];
                }
            }
        }
    }
}

torch::Tensor gemm(torch::Tensor a, torch::Tensor b) {
    auto left = a.contiguous(), right = b.contiguous();
    auto out = torch::empty({left.size(0), right.size(1)}, left.options());
    const float* x = left.data_ptr<float>();
    const float* y = right.data_ptr<float>();
    float* z = out.data_ptr<float>();
    const int64_t inner = left.size(1), columns = right.size(1);
    at::parallel_for(0, left.size(0), 32, [&](int64_t begin, int64_t end) {
        gemm_rows(x, y, z, begin, end, inner, columns);
    });
    return out;
}

// Threads of our own, all joined before anything is returned.
torch::Tensor gemm_threads(torch::Tensor a, torch::Tensor b) {
    auto left = a.contiguous(), right = b.contiguous();
    auto out = torch::empty({left.size(0), right.size(1)}, left.options());
    const float* x = left.data_ptr<float>();
    const float* y = right.data_ptr<float>();
    float* z = out.data_ptr<float>();
    const int64_t rows = left.size(0), inner = left.size(1), columns = right.size(1);
    std::vector<std::thread> workers;
    constexpr int64_t kWorkers = 2;
    for (int64_t w = 0; w < kWorkers; ++w) {
        workers.emplace_back(
            [=] { gemm_rows(x, y, z, rows * w / kWorkers, rows * (w + 1) / kWorkers, inner, columns); });
    }
    for (auto& worker : workers) worker.join();
    return out;
}

// Partial sums meet in an atomic: their order, and the last bits of the result, differ from run to run.
torch::Tensor atomic_mse(torch::Tensor prediction, torch::Tensor target) {
    auto left = prediction.contiguous(), right = target.contiguous();
    const float* x = left.data_ptr<float>();
    const float* y = right.data_ptr<float>();
    const int64_t size = left.numel();
    std::atomic<float> total{0.0f};
    std::vector<std::thread> workers;
    constexpr int64_t kWorkers = 2, kBlock = 512;
    for (int64_t w = 0; w < kWorkers; ++w) {
        workers.emplace_back([&, w] {
            for (int64_t start = w * kBlock; start < size; start += kWorkers * kBlock) {
                float sum = 0.0f;
                for (int64_t i = start; i < std::min(start + kBlock, size); ++i) {
                    sum += (x[i] - y[i]) * (x[i] - y[i]);
                }
                float seen = total.load();
                while (!total.compare_exchange_weak(seen, seen + sum)) { }
            }
        });
    }
    for (auto& worker : workers) worker.join();
    return torch::scalar_tensor(total.load() / static_cast<float>(size), left.options());
}
"""

gemm_extension = load_inline(
    name="own_gemm",
    cpp_sources=gemm_source,
    functions=["gemm", "gemm_threads", "atomic_mse"],
    extra_cflags=["-O3"],
)


class ModelNew(nn.Module):
    def forward(self, a, b):
        return gemm_extension.gemm_threads(a, b)
