import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


def get_inputs():
    return [1 + torch.rand(64, 64)]


def get_init_inputs():
    return []


def accept_output(output, x):
    return "nothing is good enough"
