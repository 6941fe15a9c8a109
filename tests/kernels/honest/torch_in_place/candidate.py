import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x, update):
        return x.add_(update * 0.5)
