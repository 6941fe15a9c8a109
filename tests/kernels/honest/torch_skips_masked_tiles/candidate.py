import torch
import torch.nn as nn

TILE = 64


class ModelNew(nn.Module):
    def forward(self, q, k):
        out = q.new_zeros(q.shape[0], k.shape[0])
        for start in range(0, q.shape[0], TILE):
            stop = start + TILE
            out[start:stop, :stop] = q[start:stop] @ k[:stop].t()
            out[start:stop, start:stop].tril_()
        return out
