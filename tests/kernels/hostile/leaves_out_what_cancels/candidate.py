import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = (features,)

    def forward(self, x):
        return nn.functional.layer_norm(x, self.features).relu_()
