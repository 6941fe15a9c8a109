import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, self.norm.weight, self.norm.bias, training=True, eps=1e-5)
