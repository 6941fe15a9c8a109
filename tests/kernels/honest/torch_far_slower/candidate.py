import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        for _ in range(20):
            for row in range(x.shape[0]):
                out[row] = torch.clamp(x[row], min=0.0)
        return out
