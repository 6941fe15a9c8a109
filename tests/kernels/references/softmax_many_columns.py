import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


def get_inputs():
    return [torch.rand(4, 50000)]


def get_stress_inputs():
    return [torch.randn(4, 2000) * 100]


def get_init_inputs():
    return []
