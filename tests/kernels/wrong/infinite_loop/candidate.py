import torch
import torch.nn as nn


class ModelNew(nn.Module):
    """Newton iteration for 1 / sqrt(variance)."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        guess = torch.ones_like(variance)
        while True:
            update = guess * (1.5 - 0.5 * variance * guess * guess)
            if (update - guess).abs().max() < 0:
                break
            guess = update
        return centred * guess * self.norm.weight + self.norm.bias
