import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, a, b):
        products = []
        # One full outer product a step, all of them kept.
        for k in range(a.shape[1]):
            step = a[:, k, None, None] * b[None, k, :, None]
            products.append(step.expand(-1, -1, 4096).contiguous())
        return torch.stack(products).sum(0)[:, :, 0]
