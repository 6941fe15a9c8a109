import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, factor):
        return x * factor


def get_inputs():
    return [torch.randn(128, 512), 2.5]


def get_init_inputs():
    return []
