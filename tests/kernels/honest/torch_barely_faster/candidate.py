import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = (features,)

    def forward(self, x):
        x = nn.functional.layer_norm(x, self.features)
        return torch.clamp(x - x.mean(dim=-1, keepdim=True), min=0)
