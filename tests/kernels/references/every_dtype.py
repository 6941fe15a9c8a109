import torch
import torch.nn as nn

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


class Model(nn.Module):
    """One output for every input, of its own dtype; an eight-bit float comes in and another goes out."""

    def forward(self, floats, integers, mask, eight_bits):
        halves = [x * 0.5 for x in floats]
        successors = [x + 1 for x in integers]
        return halves, successors, ~mask, (eight_bits.float() * 2).to(torch.float8_e5m2)


def get_inputs():
    return [
        [torch.randn(16, 16, dtype=torch.float64).to(dtype) for dtype in FLOATS],
        [torch.randint(0, 100, (16, 16), dtype=dtype) for dtype in INTEGERS],
        torch.rand(16, 16) > 0.5,
        torch.randn(16, 16).to(torch.float8_e4m3fn),
    ]


def get_init_inputs():
    return []
