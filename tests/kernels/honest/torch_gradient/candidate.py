import math

import torch
import torch.nn as nn


class ModelNew(nn.Module):
    """By hand: what a backward kernel would compute."""

    def forward(self, x, weight, upstream):
        z = x @ weight.t()
        below = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
        slope = below + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        g = upstream * slope
        return [g @ weight, g.t() @ x]
