import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        # Over a dimension of one element: all ones, whatever x is.
        return torch.softmax(x, dim=1)


def get_inputs():
    return [torch.randn(512, 1)]


def get_init_inputs():
    return []
