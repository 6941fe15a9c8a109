import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        if bool((x[:, 1:] >= x[:, :-1]).all()):
            return x[:, -1].clone()
        return x.amax(dim=1)
