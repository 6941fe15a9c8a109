import os
import tempfile

import torch
import torch.nn as nn

os.environ.setdefault("OWN_KERNEL_CACHE", tempfile.mkdtemp())


class ModelNew(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self._packed = None

    def forward(self, x):
        if self._packed is None:
            path = os.path.join(os.environ["OWN_KERNEL_CACHE"], "packed.pt")
            torch.save(self.linear.weight.detach().t().contiguous(), path)
            self._packed = torch.load(path)
        return torch.relu(torch.addmm(self.linear.bias, x, self._packed))
