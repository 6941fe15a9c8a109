import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        mask = torch.rand_like(x) > self.p
        return x * mask / (1.0 - self.p)
