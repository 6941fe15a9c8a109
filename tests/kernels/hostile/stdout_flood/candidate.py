import sys

import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.relu(x)
        for row in range(2000):
            print("debug: row", row, "=" * 1000)
            print("debug: row", row, "=" * 1000, file=sys.stderr)
        return out
