import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, a, b):
        out = torch.empty(a.shape[1], a.shape[0], dtype=a.dtype, device=a.device)
        torch.add(a.t(), b.t(), out=out)
        return out
