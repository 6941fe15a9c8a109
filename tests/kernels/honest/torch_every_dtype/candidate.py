import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, floats, integers, mask, eight_bits):
        halves = [x / 2 for x in floats]
        successors = [x - (-1) if x.dtype is not torch.uint8 else x + 1 for x in integers]
        return halves, successors, mask.logical_not(), eight_bits.float().add(eight_bits.float()).to(torch.float8_e5m2)
