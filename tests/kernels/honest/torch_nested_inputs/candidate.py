import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, tensors, weights):
        first, second = tensors
        return torch.addcmul(second * weights["second"], first, weights["first"])
