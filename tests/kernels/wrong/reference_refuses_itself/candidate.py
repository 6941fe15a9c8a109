import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)
