import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self._workspaces = {}

    def forward(self, a, b):
        key = (tuple(a.shape), tuple(b.shape), a.dtype, a.device)
        if key not in self._workspaces:
            self._workspaces[key] = torch.empty(b.shape[1], b.shape[0], dtype=b.dtype, device=b.device)
        packed = self._workspaces[key].copy_(b.t())
        return a @ packed.t()
