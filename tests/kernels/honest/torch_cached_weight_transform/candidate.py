import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self._packed = None

    def forward(self, x):
        if self._packed is None:
            # Weights do not change during inference: transpose them once.
            self._packed = self.linear.weight.detach().t().contiguous()
        return torch.addmm(self.linear.bias, x, self._packed).relu_()
