import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x, update):
        return torch.add(x, update, alpha=0.5)
