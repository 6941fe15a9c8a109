import torch
import torch.nn as nn


class ModelNew(nn.Module):
    """Optimised: contiguous operands, one fused call."""

    def forward(self, a, b):
        out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)
        torch.mm(a.contiguous(), b.contiguous(), out=out)
        return out
