import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def add_parts(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + places, mask=places < columns, other=0.0)
    tl.atomic_add(out + row, tl.sum(values, axis=0))


class ModelNew(nn.Module):
    def forward(self, x):
        x = x.contiguous()
        out = torch.zeros(x.shape[0], device=x.device)
        add_parts[(x.shape[0], triton.cdiv(x.shape[1], 512))](x, out, x.shape[1], 512)
        return out
