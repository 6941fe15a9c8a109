import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        batch, tokens, width = x.shape
        return x.view(batch, tokens, 8, width // 8).transpose(1, 2)


def get_inputs():
    return [torch.randn(4, 32, 128)]


def get_init_inputs():
    return []
