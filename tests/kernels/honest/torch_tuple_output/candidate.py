import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        mean = x.mean(dim=1)
        variance = (x - mean.unsqueeze(1)).square().mean(dim=1)
        return mean, variance
