import torch
import torch.nn as nn


class ModelNew(nn.Module):
    """Numerically stable softmax written out."""

    def forward(self, x):
        shifted = x - x.amax(dim=-1, keepdim=True)
        exponentials = shifted.exp()
        return exponentials / exponentials.sum(dim=-1, keepdim=True)
