import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        # Some tens of milliseconds: longer than the slice in which a GPU serves one process at a time.
        out = torch.matmul(a, b)
        for _ in range(7):
            out = torch.matmul(out, b) * 0.01
        return out


def get_inputs():
    return [torch.randn(4096, 4096), torch.randn(4096, 4096)]


def get_init_inputs():
    return []
