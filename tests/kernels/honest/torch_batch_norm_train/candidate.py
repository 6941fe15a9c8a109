import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x):
        if not self.training:
            return self.norm(x)
        norm = self.norm
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (x.shape[0] / (x.shape[0] - 1)), norm.momentum)
        return (x - mean) * torch.rsqrt(variance + norm.eps) * norm.weight + norm.bias
