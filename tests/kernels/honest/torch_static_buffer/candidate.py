import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("_out", torch.empty(0), persistent=False)

    def forward(self, x):
        if self._out.shape != x.shape:
            self._out = torch.empty_like(x)
        torch.clamp(x, min=0, out=self._out)
        return self._out
