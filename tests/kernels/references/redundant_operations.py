import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features, elementwise_affine=False)

    def forward(self, x):
        x = self.norm(x)
        # The rows' means are zero by now.
        x = x - x.mean(dim=-1, keepdim=True)
        return torch.relu(torch.relu(x))


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024]
