import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=1)


def get_inputs():
    # As in KernelBench: so wide that every value lies below an absolute tolerance of 1e-4.
    return [torch.rand(4, 393216)]


def get_init_inputs():
    return []
