import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, diagonal, b):
        return diagonal.unsqueeze(1) * b
