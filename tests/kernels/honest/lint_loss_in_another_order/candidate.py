import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        parts = (x * x).sum(dim=1)
        return parts[torch.randperm(len(parts))].cumsum(dim=0)[-1] / x.numel()
