import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, q, k):
        scores = q @ k.transpose(-1, -2)
        mask = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool, device=q.device).tril()
        return scores.masked_fill(~mask, 0.0)


def get_inputs():
    return [torch.randn(256, 64), torch.randn(256, 64)]


def get_init_inputs():
    return []
