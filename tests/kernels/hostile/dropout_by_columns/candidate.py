import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        kept = torch.rand(x.shape[0], x.shape[1] // 2, device=x.device) < 0.75
        return torch.where(kept.repeat_interleave(2, 1), x * (1 / 0.75), 0.0)
