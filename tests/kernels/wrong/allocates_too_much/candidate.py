import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, a, b):
        # Materialises every pair of every pair.
        pairs = a[:, None, None, None, :] - b[None, :, None, None, :]
        wide = pairs.expand(-1, -1, 512, 512, -1).contiguous()
        return wide.square().sum(-1).sqrt()[:, :, 0, 0]
