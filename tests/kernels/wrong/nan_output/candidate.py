import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        # Unstable on purpose: the exponentials overflow, inf / inf is NaN.
        exponentials = torch.exp(x * 100.0) ** 100
        return exponentials / exponentials.sum(dim=-1, keepdim=True)
