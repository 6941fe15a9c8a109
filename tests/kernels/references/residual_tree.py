import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, tensors, weights):
        return tensors[0] * weights["first"] + tensors[1] * weights["second"]


def get_inputs():
    return [
        [torch.randn(64, 64), torch.randn(64, 64)],
        {"first": torch.rand(64), "second": 0.5},
    ]


def get_init_inputs():
    return []
