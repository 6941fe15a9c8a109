import torch
import torch.nn as nn

BLOCK = 128


class ModelNew(nn.Module):
    def forward(self, x):
        maximum = x.new_full((x.shape[0], 1), float("-inf"))
        total = x.new_zeros(x.shape[0], 1)
        for block in x.split(BLOCK, dim=1):
            larger = torch.maximum(maximum, block.amax(dim=1, keepdim=True))
            total = total * torch.exp(maximum - larger) + torch.exp(block - larger).sum(dim=1, keepdim=True)
            maximum = larger
        return torch.exp(x - maximum) / total
