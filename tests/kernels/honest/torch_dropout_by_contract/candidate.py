import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        kept = torch.empty_like(x).bernoulli_(0.75)
        return x * kept * (1 / 0.75)
