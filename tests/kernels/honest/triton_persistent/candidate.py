import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def k(x, y, size, BLOCK: tl.constexpr):
    for block in range(tl.program_id(0), tl.cdiv(size, BLOCK), tl.num_programs(0)):
        places = block * BLOCK + tl.arange(0, BLOCK)
        values = tl.load(x + places, mask=places < size)
        tl.store(y + places, tl.maximum(values, 0.0), mask=places < size)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self._blocks = 0

    def forward(self, x):
        x = x.contiguous()
        if not self._blocks:
            self._blocks = 4 * torch.cuda.get_device_properties(x.device).multi_processor_count
        y = torch.empty_like(x)
        k[(self._blocks,)](x, y, x.numel(), 2048)
        return y
