"""What the fast recipe has to get right on a toolchain before it is used there."""

from __future__ import annotations

from keck_cell import ExtensionCall

__all__ = ["BINDING_PROBE", "BINDING_SCRIPT", "DEVICE_PROBE", "DEVICE_PROBE_BARE"]

BINDING_PROBE = ExtensionCall(
    kind="load_inline",
    name="keck_probe",
    cpp_sources=("""
std::tuple<torch::Tensor, int64_t> probe(torch::Tensor x, std::optional<torch::Tensor> y, std::vector<int64_t> shape, double scale) {
  auto z = (x * scale).reshape(shape);
  if (y.has_value()) z = z + *y;
  TORCH_CHECK(z.size(0) == 2, "expected 2 rows, got ", z.sizes());
  auto out = torch::zeros({z.size(0), z.size(1)}, z.options().dtype(torch::kFloat64));
  auto rows = z.accessor<float, 2>();
  auto target = out.accessor<double, 2>();
  for (int64_t r = 0; r < z.size(0); ++r)
    for (int64_t c = 0; c < z.size(1); ++c) target[r][c] = rows[r][c];
  return {torch::cat({out, torch::full_like(out, 7)}, 0), z.numel()};
}
""",),
    functions=(("probe", "what it says"),),
)  # fmt: skip

BINDING_SCRIPT = """
import torch
def check(module):
    z, n = module.probe(torch.ones(6), None, [2, 3], 2.5)
    assert n == 6 and z.dtype == torch.float64 and z.shape == (4, 3), (n, z)
    assert z[:2].eq(2.5).all() and z[2:].eq(7).all(), z
    z, _ = module.probe(torch.ones(6), torch.full((2, 3), 2.0), (2, 3), 1)
    assert z[:2].eq(3.0).all(), z
    assert "what it says" in module.probe.__doc__ and "torch.Tensor" in module.probe.__doc__, module.probe.__doc__
    for arguments, error, words in (
        ((torch.ones(6), None, [3, 2], 1.0), RuntimeError, "expected 2 rows, got [3, 2]"),
        ((torch.ones(6), 3, [2, 3], 1.0), TypeError, "incompatible function arguments"),
        ((torch.ones(6),), TypeError, "incompatible function arguments"),
    ):
        try:
            module.probe(*arguments)
        except error as raised:
            assert type(raised) is error and words in str(raised), raised
        else:
            raise AssertionError(arguments)
"""
"""What stock's build of the probe does, which a test holds it to."""

_KERNEL = """
template <typename scalar_t>
__global__ void keck_probe_kernel(const scalar_t* x, scalar_t* y, int n) {
  __shared__ scalar_t tile[128];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  tile[threadIdx.x] = i < n ? x[i] : scalar_t(0);
  __syncthreads();
  if (i < n) y[i] = tile[threadIdx.x] * tile[127 - threadIdx.x];
}
"""
DEVICE_PROBE = ExtensionCall(
    kind="load_inline",
    name="keck_device_probe",
    cpp_sources=("torch::Tensor probe(torch::Tensor x);",),
    cuda_sources=("#include <torch/extension.h>\n" + _KERNEL + """
torch::Tensor probe(torch::Tensor x) {
  auto y = torch::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "probe", [&] {
    keck_probe_kernel<scalar_t><<<(x.numel() + 127) / 128, 128>>>(x.data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), x.numel());
  });
  return y;
}
""",),
    functions=(("probe", "probe"),),
)  # fmt: skip
DEVICE_PROBE_BARE = ExtensionCall(
    kind="load_inline",
    name="keck_device_probe",
    cpp_sources=("",),
    cuda_sources=(_KERNEL + """
void probe(bool twice, void* x) {
  if (twice) keck_probe_kernel<double><<<1, 128>>>((const double*)x, (double*)x, 1);
  else keck_probe_kernel<float><<<1, 128>>>((const float*)x, (float*)x, 1);
}
""",),
    no_implicit_headers=True,
)  # fmt: skip
"""The same kernels without torch: the device code must be the same."""
