import torch
import torch.nn as nn

SHAPES = [(8, 32), (64, 64), (1, 100), (33, 7)]


class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


def get_inputs():
    """Another shape each time: a task has as many as its inputs are drawn from."""
    return [torch.randn(SHAPES[int(torch.randint(0, len(SHAPES), ()))])]


def get_init_inputs():
    return []
