import torch
import torch.nn as nn


def pairwise_sum(x, low, high):
    if high - low == 0:
        return x[:, low]
    middle = (low + high) // 2
    return pairwise_sum(x, low, middle) + pairwise_sum(x, middle, high)


class ModelNew(nn.Module):
    def forward(self, x):
        return pairwise_sum(x, 0, x.shape[1]) / x.shape[1]
