import torch
import torch.nn as nn


class Model(nn.Module):
    """LayerNorm."""

    def __init__(self, features, eps=1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(features, eps=eps)

    def forward(self, x):
        return self.norm(x)


class ModelNew(Model):
    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        centred = x - mean
        scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.norm.eps)
        return centred * scale * self.norm.weight + self.norm.bias
