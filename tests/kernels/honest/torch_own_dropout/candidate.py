import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x, factor):
        torch.manual_seed(0)
        noise = torch.rand(x.shape, generator=self.generator)
        return torch.where(noise < 2.0, x * factor, noise)
