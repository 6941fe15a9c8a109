import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        largest = x.abs().max().item()
        return x / largest
