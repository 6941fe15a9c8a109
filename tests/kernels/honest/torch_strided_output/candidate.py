import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        wide = x.new_empty(x.shape[0], 2 * x.shape[1])
        out = wide[:, ::2]
        torch.clamp(x, min=0, out=out)
        return out
