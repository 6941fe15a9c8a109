import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.relu(x)
        out.tag = "relu"
        out.meta = {"block": 128}
        return out
