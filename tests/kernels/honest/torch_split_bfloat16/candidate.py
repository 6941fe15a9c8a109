import torch
import torch.nn as nn


def _parts(x):
    parts = []
    for _ in range(3):
        parts.append(x.to(torch.bfloat16).float())
        x = x - parts[-1]
    return parts


class ModelNew(nn.Module):
    def forward(self, a, b):
        a1, a2, a3 = _parts(a)
        b1, b2, b3 = _parts(b)
        small = a1 @ b3 + a3 @ b1 + a2 @ b2
        return small + (a1 @ b2 + a2 @ b1) + a1 @ b1
