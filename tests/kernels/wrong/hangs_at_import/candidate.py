import torch
import torch.nn as nn


def autotune():
    best = None
    while best is None:
        for block in (64, 128, 256):
            elapsed = torch.randn(block).sum().item() * 0.0
            if elapsed > 0.0 and (best is None or elapsed < best):
                best = block
    return best


BLOCK = autotune()


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.relu(x)
